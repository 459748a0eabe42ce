"""Mutual TLS between our processes: who calls is told by the certificate alone."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.core import health
from services.core.calls import Peer, call, client
from services.core.errors import BadInput, BadSetting, NotFound, Refused, TooLarge, Unavailable
from services.core.http import MAX_BODY, Actor, ServiceActor, create_app, serve
from services.core.renewal import renew
from services.core.tls import DevelopmentCa, Identity, client_context, person_id, server_context, service_id, spiffe_id
from tests.ports import free_port
from tests.serving import wait_for


@dataclass(frozen=True)
class Server:
    """An app that says who calls; ca signs its certificate and its callers'."""

    ca: DevelopmentCa
    folder: Path
    port: int

    def as_(self, spiffe: str) -> Identity:
        return self.ca.issue(spiffe, self.folder / spiffe.rsplit("/", 1)[-1])

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    found = Server(DevelopmentCa(folder / "ca"), folder, free_port())
    app = create_app("test")

    @app.get("/v1/me")
    def me(actor: Actor) -> dict[str, str]:
        return {"actor": actor}

    @app.post("/v1/between")
    def between(actor: ServiceActor) -> dict[str, str]:
        return {"actor": actor}

    ready, running = threading.Event(), list[tuple[asyncio.AbstractEventLoop, "asyncio.Task[None]"]]()

    async def run() -> None:
        identity = found.as_(service_id("api"))
        running.append((asyncio.get_running_loop(), asyncio.current_task()))  # type: ignore[arg-type]
        with contextlib.suppress(asyncio.CancelledError):
            await serve(app, host="127.0.0.1", port=found.port, identity=identity, ready=ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(20)
    yield found
    loop, task = running[0]
    loop.call_soon_threadsafe(task.cancel)
    thread.join(20)


def test_the_actor_is_the_identity_in_the_certificate_whatever_the_headers_say(server: Server) -> None:
    with client(server.url, server.as_(person_id("ada"))) as caller:
        headers = {"x-spiffe-id": service_id("api"), "x-forwarded-client-cert": service_id("api"), "from": service_id("api")}
        assert call(caller, "GET", "/v1/me", headers=headers) == {"actor": person_id("ada")}


def test_a_route_between_services_refuses_people(server: Server) -> None:
    with client(server.url, server.as_(service_id("router"))) as caller:
        assert call(caller, "POST", "/v1/between") == {"actor": service_id("router")}
    with client(server.url, server.as_(person_id("ada"))) as caller, pytest.raises(Refused, match="is no service"):
        call(caller, "POST", "/v1/between")


def test_without_a_certificate_there_is_no_answer(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.as_(service_id("api")).ca))
    with httpx.Client(verify=context) as caller, pytest.raises(httpx.TransportError):
        caller.get(f"{server.url}/v1/me")


def test_a_certificate_of_another_ca_gets_no_answer(server: Server, tmp_path: Path) -> None:
    stranger = DevelopmentCa(tmp_path / "ca").issue(service_id("api"), tmp_path / "api")
    ours = server.as_(service_id("api"))
    with client(server.url, Identity(stranger.cert, stranger.key, ours.ca)) as caller, pytest.raises(Unavailable):
        call(caller, "GET", "/v1/me")
    with client(server.url, stranger) as caller, pytest.raises(Unavailable):
        call(caller, "GET", "/v1/me")


def test_an_older_protocol_gets_no_answer(server: Server) -> None:
    context = client_context(server.as_(service_id("api")))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with httpx.Client(verify=context) as caller, pytest.raises(httpx.TransportError):
        caller.get(f"{server.url}/v1/me")


def test_a_certificate_for_another_host_is_not_called(server: Server) -> None:
    context = client_context(server.as_(service_id("api")))
    with socket.create_connection(("127.0.0.1", server.port)) as raw, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(raw, server_hostname="api.example")


def test_a_common_name_is_no_host_name(server: Server, tmp_path: Path) -> None:
    """A person's certificate has an identity and no host names: it must not stand for a server that it is named after."""
    identity = _named(server, "localhost", tmp_path)
    inside = client_context(server.as_(service_id("api")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_greet, args=(listener, server_context(identity)))
        thread.start()
        with (
            socket.create_connection(listener.getsockname()) as raw,
            pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
        ):
            inside.wrap_socket(raw, server_hostname="localhost")
        thread.join(10)


def _named(server: Server, common_name: str, folder: Path) -> Identity:
    """A certificate of a person of the server's CA, with this common name and nothing but an identity beside it."""
    authority = x509.load_pem_x509_certificate((server.folder / "ca" / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((server.folder / "ca" / "ca.key").read_bytes(), None)
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]))
        .issuer_name(authority.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(minutes=5))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(person_id("mallory"))]), critical=False)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    private = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(private)
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    return Identity.in_folder(folder)


def _greet(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(ssl.SSLError, ConnectionError):
        context.wrap_socket(connection, server_side=True).close()


def test_problems_come_back_as_our_errors(server: Server) -> None:
    with client(server.url, server.as_(service_id("router"))) as caller:
        with pytest.raises(NotFound):
            call(caller, "GET", "/v1/none")
        with pytest.raises(BadInput, match="stands twice"):
            call(caller, "POST", "/v1/between", content=b'{"a":1,"a":2}')
        with pytest.raises(TooLarge):
            call(caller, "POST", "/v1/between", content=b" " * (MAX_BODY + 1))


def test_a_peer_is_called_and_refused_as_by_every_caller(server: Server, tmp_path: Path) -> None:
    ours, router = server.as_(service_id("api")), server.as_(service_id("router"))
    peer = Peer(server.url, client_context(router), timeout_s=5.0)
    assert peer.call("POST", "/v1/between") == {"actor": service_id("router")}
    with pytest.raises(NotFound):
        peer.call("GET", "/v1/none")
    peer.close()
    stranger = DevelopmentCa(tmp_path / "ca").issue(service_id("api"), tmp_path / "api")
    for identity in (stranger, Identity(stranger.cert, stranger.key, ours.ca)):
        with pytest.raises(Unavailable):
            Peer(server.url, client_context(identity), timeout_s=5.0).call("GET", "/v1/me")
    with pytest.raises(Unavailable, match="did not answer"):
        Peer(f"https://127.0.0.1:{free_port()}", client_context(router), timeout_s=0.5).call("GET", "/v1/me")


def test_a_peer_that_closed_an_idle_connection_is_called_on_a_new_one(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        identity, answered = server.as_(service_id("router")), list[int]()

        def serve_twice() -> None:
            # One answer for each connection, which is closed after it although its answer does not say so.
            for number in range(2):
                raw, _ = listener.accept()
                with server_context(identity).wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                answered.append(number)

        thread = threading.Thread(target=serve_twice)
        thread.start()
        peer = Peer(f"https://127.0.0.1:{listener.getsockname()[1]}", client_context(identity), timeout_s=5.0)
        assert peer.call("GET", "/v1/me") == {}
        while not answered:
            time.sleep(0.01)
        assert peer.call("GET", "/v1/me") == {}
        thread.join()
        peer.close()


def test_a_port_that_is_taken_is_a_wrong_setting(server: Server) -> None:
    with pytest.raises(BadSetting, match=f"port {server.port} .* is taken"):
        asyncio.run(serve(create_app("second"), host="127.0.0.1", port=server.port, identity=server.as_(service_id("api"))))


def test_nobody_at_the_other_end_is_retryable(server: Server) -> None:
    with client(f"https://127.0.0.1:{free_port()}", server.as_(service_id("api"))) as caller, pytest.raises(Unavailable):
        call(caller, "GET", "/v1/me")


def test_private_files_are_their_owners_alone(server: Server) -> None:
    keys = [server.as_(service_id("x")).key, server.folder / "ca" / "ca.key"]
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600]


def test_a_ca_that_is_there_is_used_again(server: Server, tmp_path: Path) -> None:
    first = DevelopmentCa(tmp_path).issue(service_id("a"), tmp_path / "a").ca.read_bytes()
    assert DevelopmentCa(tmp_path).issue(service_id("b"), tmp_path / "b").ca.read_bytes() == first


def test_what_is_no_certificate_with_one_identity_names_nobody(server: Server) -> None:
    identity = server.as_(service_id("api"))
    leaf, root = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (identity.cert, identity.ca))
    der = [certificate.public_bytes(serialization.Encoding.DER) for certificate in (leaf, root)]
    assert [spiffe_id(data) for data in (*der, b"", b"no certificate")] == [service_id("api"), None, None, None]


def shown(server: Server, asking: ssl.SSLContext) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain, asking.wrap_socket(
        plain, server_hostname="127.0.0.1"
    ) as secure:
        found = secure.getpeercert(binary_form=True)
        assert found is not None
        return found


def test_a_renewed_certificate_is_shown_without_a_restart(server: Server) -> None:
    asking = client_context(server.as_(person_id("tara")))
    before = shown(server, asking)
    server.as_(service_id("api"))
    wait_for(lambda: shown(server, asking) != before, "the new certificate is shown")


def test_clients_of_a_process_take_its_renewed_certificate(server: Server, tmp_path: Path) -> None:
    identity = server.ca.issue(person_id("petra"), tmp_path)
    with client(server.url, identity) as caller:
        assert call(caller, "GET", "/v1/me") == {"actor": person_id("petra")}
        server.ca.issue(person_id("paul"), tmp_path)

        async def look() -> None:
            renewing = asyncio.ensure_future(renew(identity, 0.02))
            await asyncio.sleep(0.01)
            server.ca.issue(person_id("paul"), tmp_path)
            await asyncio.sleep(0.3)
            renewing.cancel()

        asyncio.run(look())
        # A connection that is open keeps the certificate that it was made with.
        assert call(caller, "GET", "/v1/me", headers={"Connection": "close"}) == {"actor": person_id("petra")}
        assert call(caller, "GET", "/v1/me") == {"actor": person_id("paul")}


def test_a_probe_within_the_pod_asks_with_the_services_own_certificate(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = server.ca.issue(service_id("api"), tmp_path)
    probe = [str(server.port), str(identity.cert.parent)]
    assert health.main([*probe, "--path", "/metrics"]) == 0
    assert health.main([*probe, "--path", "/nothing"]) == 1
    assert "HTTP 404" in capsys.readouterr().err
    assert health.main([str(free_port()), probe[1]]) == 1
    other = DevelopmentCa(tmp_path / "other").issue(service_id("api"), tmp_path / "foreign")
    assert health.main([str(server.port), str(other.cert.parent)]) == 1
