"""How a process logs in to a database of RDS: with a token that AWS takes for its role. PostgreSQL is real, RDS is not there."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import make_url

from services.core.database import open_engine
from services.core.errors import Unavailable
from tests import databases


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a database that is reached through a socket, under the host name that RDS would have."""
    return make_url(databases.url(tmp_path, "login", "postgresql")).set(host="db.example").render_as_string(hide_password=False)


def test_each_connection_logs_in_with_a_token_for_its_user(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-pods-role")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    engine = open_engine(url + "&aws_region=eu-central-1")
    with engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        user, token = raw.info.user, urlsplit("https://" + raw.info.password)
    query = parse_qs(token.query)
    assert token.netloc == "db.example:5432"
    assert (query["Action"], query["DBUser"]) == (["connect"], [user])
    assert query["X-Amz-Credential"][0].split("/")[0::2][:2] == ["of-the-pods-role", "eu-central-1"]


def test_without_credentials_the_database_is_away(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="no token"):
        open_engine(url + "&aws_region=eu-central-1").connect()


def test_a_url_without_a_region_keeps_its_own_password(url: str) -> None:
    own = make_url(url).set(password="kept").render_as_string(hide_password=False)
    with open_engine(own).connect() as connection:
        raw: Any = connection.connection.driver_connection
        assert raw.info.password == "kept"
