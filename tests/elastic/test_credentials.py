"""Proxy and token: found where grid tools leave them, refused where they would fail, written for one user."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.elastic import write_proxy
from vse.elastic import credentials
from vse.errors import Denied


def find(tmp_path: Path, **environment: str) -> list[credentials.Credential]:
    now = datetime.now(UTC).timestamp()
    return credentials.find({"XDG_RUNTIME_DIR": str(tmp_path), **environment}, 1234, now, tmp_path)


def test_a_proxy_is_found_where_the_convention_says(tmp_path):
    content = write_proxy(tmp_path / "x509up_u1234")
    (found,) = find(tmp_path)
    assert (found.variable, found.content) == ("X509_USER_PROXY", content)
    assert "PRIVATE" not in repr(found)


def test_tokens_are_found_in_the_order_of_the_discovery(tmp_path):
    path = tmp_path / "bt_u1234"
    path.touch(0o600)
    path.write_text("from-file\n")
    assert find(tmp_path)[0].content == b"from-file"
    assert find(tmp_path, BEARER_TOKEN="from-variable")[0].content == b"from-variable"


def test_what_others_may_read_is_refused(tmp_path):
    write_proxy(tmp_path / "x509up_u1234")
    (tmp_path / "x509up_u1234").chmod(0o644)
    with pytest.raises(Denied, match="chmod 600"):
        find(tmp_path)


def test_what_has_expired_is_refused(tmp_path):
    write_proxy(tmp_path / "x509up_u1234", valid_s=-60)
    with pytest.raises(Denied, match="expired 6"):
        find(tmp_path)
    (tmp_path / "x509up_u1234").unlink()
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1000}).encode()).decode().rstrip("=")
    with pytest.raises(Denied, match="expired") as refused:
        find(tmp_path, BEARER_TOKEN=f"a.{claims}.b")
    assert claims not in str(refused.value)


def test_they_are_written_for_their_user_only_and_renewed_in_place(tmp_path):
    for content in (b"one", b"two"):
        variables = credentials.write({"X509_USER_PROXY": content, "LD_PRELOAD": b"evil"}, tmp_path)
    path = Path(variables["X509_USER_PROXY"])
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(variables) == ["X509_USER_PROXY"]
    assert [one.name for one in tmp_path.glob("*.pem*")] == ["proxy.pem"]
