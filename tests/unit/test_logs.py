"""Log lines of our processes: when, who, how bad, what. Each process configures them once, so each test has its own."""

import datetime
import re
import subprocess
import sys

LOGGED = """
import logging
from services.core import logs
logs.configure("api", logging.INFO)
logging.getLogger("services.audit").warning("the witness did not cosign")
logging.getLogger("alembic.runtime.plugins").info("setup plugin")
logging.getLogger("httpx").info("HTTP Request: GET")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("services.api").exception("failed")
"""


def test_each_entry_has_its_utc_time_and_libraries_do_not_tell_of_every_call() -> None:
    elsewhere = {"TZ": "Asia/Tokyo", "PATH": "/usr/bin:/bin"}
    before = datetime.datetime.now(datetime.UTC)
    done = subprocess.run([sys.executable, "-c", LOGGED], env=elsewhere, capture_output=True, text=True, check=True)
    entries = [line.partition(" ") for line in done.stderr.splitlines()]
    assert [told for _, _, told in entries[:2]] == ["api: WARNING the witness did not cosign", "api: ERROR failed"]
    assert (done.stderr.splitlines()[2], done.stderr.splitlines()[-1]) == (
        "Traceback (most recent call last):", "ZeroDivisionError: division by zero",
    )  # fmt: skip
    for moment, _, _ in entries[:2]:
        assert re.fullmatch(r"[-0-9]{10}T[:0-9]{8}\.[0-9]{3}Z", moment)
        at = datetime.datetime.fromisoformat(moment)
        assert before - datetime.timedelta(milliseconds=1) <= at <= datetime.datetime.now(datetime.UTC)
