"""C2SP tlog-witness over HTTP. Requests carry no identity: the log's signature on the checkpoint is what counts."""

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.core.errors import AiInfraError
from services.witness.errors import BadRequest, NotConsistent, NotSigned, UnknownLog, WrongSize
from services.witness.service import MAX_REQUEST_BYTES, Witness

STATUS: dict[type[AiInfraError], int] = {BadRequest: 400, NotSigned: 403, UnknownLog: 404, NotConsistent: 422}


def create_witness_app(witness: Witness) -> Starlette:
    """`add-checkpoint`, and `healthz` for whoever watches the process."""

    async def add_checkpoint(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_REQUEST_BYTES:
                return PlainTextResponse(f"a request is at most {MAX_REQUEST_BYTES} bytes\n", 413)
        try:
            return PlainTextResponse(await run_in_threadpool(witness.add_checkpoint, body))
        except WrongSize as error:
            # As a header: to a media type of text Starlette would add a charset, and clients compare the whole value.
            return Response(f"{error.size}\n", 409, {"content-type": "text/x.tlog.size"})
        except AiInfraError as error:
            return PlainTextResponse(f"{error}\n", STATUS.get(type(error), 503))

    async def health(request: Request) -> Response:
        return PlainTextResponse(f"{witness.vkey}\n")

    return Starlette(routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"]), Route("/healthz", health)])
