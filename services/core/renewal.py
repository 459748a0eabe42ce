"""Certificates that are renewed while a process runs: TLS contexts take the new files, connections made from then on use them.

A certificate authority is only ever added to a context; to forget an old one, restart the process.
"""

import asyncio
import logging
import ssl

from services.core.tls import Identity, contexts_of

LOOK_S = 5.0

log = logging.getLogger(__name__)


async def renew(identity: Identity, look_s: float = LOOK_S) -> None:
    """Renews every context of this identity, until cancelled. Files that do not fit together (half of them replaced) are tried
    again at the next look."""
    seen = _state(identity)
    while True:
        await asyncio.sleep(look_s)
        found = _state(identity)
        if found == seen or None in found:
            continue
        try:
            for context in contexts_of(identity):
                context.load_verify_locations(identity.ca)
                context.load_cert_chain(identity.cert, identity.key)
        except (OSError, ssl.SSLError) as error:
            log.warning("the renewed certificate in %s is not usable yet: %s", identity.cert.parent, error)
            continue
        seen = found
        log.info("the certificate in %s was renewed", identity.cert.parent)


def _state(identity: Identity) -> tuple[tuple[int, int] | None, ...]:
    """Modification time and inode of each file; None for one that is not there."""
    result: list[tuple[int, int] | None] = []
    for path in (identity.cert, identity.key, identity.ca):
        try:
            found = path.stat()
        except FileNotFoundError:
            result.append(None)
        else:
            result.append((found.st_mtime_ns, found.st_ino))
    return tuple(result)
