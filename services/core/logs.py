"""How our processes write their logs: one entry a line, when it was (UTC), and which trace it belongs to."""

import logging
import time

from services.core import tracing


class _Lines(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format, default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Before a traceback, if there is one: a line that is searched for has both."""
        line, trace = super().formatMessage(record), tracing.trace_id()
        return f"{line} trace_id={trace}" if trace else line


def configure(service: str, level: int) -> None:
    """Once in a process. Libraries that tell of each call are heard from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(f"%(asctime)s {service}: %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for name in ("httpx", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
