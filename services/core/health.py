"""`python -m services.core.health PORT CERTS`: whether a service on this machine answers, to a caller that shows a certificate.

For probes in a cluster, whose own kind shows none. CERTS: folder with tls.crt, tls.key and ca.crt of the service itself. Its server
is judged too: a certificate that has expired in its memory, and was renewed on disk since, is a reason to start it again.
"""

import argparse
import http.client
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0: it answers; 1: it does not, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="services.core.health", description="Asks a service on this machine how it is.")
    parser.add_argument("port", type=int)
    parser.add_argument("certs", type=Path)
    parser.add_argument("--path", default="/healthz")
    options = parser.parse_args(arguments)
    try:
        status = ask(options.port, options.certs, options.path)
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"{options.path}: {type(error).__name__} {error}\n")
        return 1
    if status != 200:
        sys.stderr.write(f"{options.path}: HTTP {status}\n")
        return 1
    return 0


def ask(port: int, certs: Path, path: str) -> int:
    """The status of an answer. Raises OSError (refused, timeout, TLS), HTTPException."""
    # Not core.tls: a probe runs every few seconds, and what that module imports takes longer than the call.
    context = ssl.create_default_context(cafile=certs / "ca.crt")
    context.load_cert_chain(certs / "tls.crt", certs / "tls.key")
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
