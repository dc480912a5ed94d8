"""Proxy and token: found where grid tools leave them, refused where they would fail, written for one user."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from support.elastic import environment_of, write_proxy
from support.waiting import until
from vse.app.vaf import ClusterWorkers
from vse.config.vaf import VafSettings
from vse.elastic import credentials
from vse.elastic.pack import make_pack
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


def test_one_that_cannot_be_used_does_not_keep_the_other_back(tmp_path):
    content = write_proxy(tmp_path / "x509up_u1234")
    (tmp_path / "bt_u1234").write_text("tok3n")
    (tmp_path / "bt_u1234").chmod(0o644)
    now = datetime.now(UTC).timestamp()
    found, refused = credentials.look({"XDG_RUNTIME_DIR": str(tmp_path)}, 1234, now, tmp_path)
    assert [one.content for one in found] == [content]
    assert ["chmod 600" in str(one) for one in refused] == [True]


@pytest.mark.parametrize(
    ("left_s", "look_s"), [((), 60), ((7200,), 60), ((40, 7200), 5), ((-5,), 1), ((2,), 1)]
)
def test_the_sooner_they_expire_the_sooner_renewed_ones_are_looked_for(left_s, look_s):
    found = [credentials.Credential("X509_USER_PROXY", b"", expires_at=1000.0 + one) for one in left_s]
    opaque = credentials.Credential("BEARER_TOKEN_FILE", b"opaque")
    assert credentials.renew_after_s([*found, opaque], 1000.0) == look_s


def test_a_worker_whose_clock_is_hours_off_takes_the_key_of_the_facility():
    (certificate,) = x509.load_pem_x509_certificates(make_pack("vaf-test").certificate.encode())
    now = datetime.now(UTC)
    for off in (timedelta(hours=-23), timedelta(hours=23)):
        assert certificate.not_valid_before_utc < now + off < certificate.not_valid_after_utc


@pytest.mark.slow
def test_renewed_here_they_reach_running_workers_before_the_old_ones_expire(
    make_facility, tmp_path, monkeypatch
):
    proxy, token = tmp_path / "proxy.pem", tmp_path / "token"
    old = write_proxy(proxy, valid_s=120).decode()
    token.touch(0o600)
    token.write_text("old")
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(token))
    monkeypatch.setenv("VAF_STATE", str(tmp_path / "state"))
    facility = make_facility()
    made = time.monotonic()
    facility.start()
    facility.request(1)
    facility.wait(1, 120)
    with ClusterWorkers("vaf", VafSettings()) as workers:
        told = environment_of(workers.client)
        assert (told["proxy"], told["token"]) == (old, "old")
        new = write_proxy(proxy, valid_s=7200).decode()
        token.write_text("new")

        def renewed():
            now = environment_of(workers.client)
            return now if (now["proxy"], now["token"]) == (new, "new") else None

        later = until(renewed, 90)
    assert time.monotonic() - made < 120
    assert later["X509_USER_PROXY"] == told["X509_USER_PROXY"]
    assert later["modes"] == [0o600, 0o600, 0o700]
