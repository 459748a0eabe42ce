"""A real S3 server that enforces object lock: versitygw over a folder."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from tests.ports import free_port

ACCESS = {"aws_access_key_id": "test", "aws_secret_access_key": "testtesttest", "region_name": "us-east-1"}


@contextmanager
def served(program: str, folder: Path) -> Iterator[str]:
    """URL of a server that lives as long as the block."""
    for name in ("data", "versions"):
        (folder / name).mkdir()
    port = free_port()
    command = [program, "--port", f"127.0.0.1:{port}", "posix", "--versioning-dir", str(folder / "versions"), str(folder / "data")]
    environ = os.environ | {"ROOT_ACCESS_KEY": ACCESS["aws_access_key_id"], "ROOT_SECRET_KEY": ACCESS["aws_secret_access_key"]}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def client(url: str) -> Any:
    return boto3.client("s3", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}), **ACCESS)


def _wait(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client(url).list_buckets()
            return
        except BotoCoreError:
            assert time.monotonic() < deadline, "versitygw did not start"
            time.sleep(0.1)
