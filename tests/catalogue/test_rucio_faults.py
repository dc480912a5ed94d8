"""A Rucio server that lies, breaks off, is busy or silent: an error that says so, never half an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from support.raw_answers import RESET, STALL, LyingServer, answer
from vse.catalogue.port import CopyMade
from vse.catalogue.upstream.rucio import RucioUpstream
from vse.config.upstreams import UpstreamSettings
from vse.errors import BadSettings, Denied, NoSuchEntry, UpstreamGarbage, UpstreamUnavailable, VseError
from vse.model import Lfn

NOW_S = 1_700_000_000.0
FILE = Lfn("lhc:f1")
META = {
    "scope": "lhc",
    "name": "f1",
    "did_type": "FILE",
    "bytes": 5,
    "adler32": "00000001",
    "guid": None,
    "account": "root",
    "created_at": "Sun, 22 Nov 2026 05:53:47 UTC",
}
PLACES = {
    "scope": "lhc",
    "name": "f1",
    "pfns": {"root://far//f1": {"priority": 1}},
    "rses": {"FAR": ["root://far//f1"]},
    "states": {"FAR": "AVAILABLE"},
}


def stream(*rows: object, **changes: Any) -> bytes:
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return answer("200 OK", body, Content_Type="application/x-json-stream", **changes)


def token(text: str = "a-token", life_s: float = 3600.0) -> bytes:
    ends = formatdate(NOW_S + life_s, usegmt=True).replace("GMT", "UTC")
    headers = {"X-Rucio-Auth-Token": text, "X-Rucio-Auth-Token-Expires": ends}
    return answer("200 OK", b"", **headers)


def refusal(status: str, kind: str, message: str = "no", **headers: str) -> bytes:
    return answer(status, b"{}", ExceptionClass=kind, ExceptionMessage=message, **headers)


class Script:
    """What each path answers; ``paths`` is what was asked, in order."""

    def __init__(self, **changes: bytes | Callable[[bytes], bytes]) -> None:
        self.answers: dict[str, bytes | Callable[[bytes], bytes]] = {
            "/auth/userpass": token(),
            "/dids/bulkmeta": stream(META),
            "/replicas/list": stream(PLACES),
            "/dids/lhc/dids/search": stream("f1"),
            "/scopes/": answer("200 OK", b'["lhc"]', Content_Type="application/json"),
            "/rses/MINE": answer("200 OK", b'{"deterministic": false}', Content_Type="application/json"),
            "/replicas/": answer("201 Created", b"Created"),
        }
        names = {"login": "/auth/userpass", "meta": "/dids/bulkmeta", "places": "/replicas/list"}
        names |= {
            "search": "/dids/lhc/dids/search",
            "scopes": "/scopes/",
            "add": "/replicas/",
            "rse": "/rses/MINE",
        }
        self.answers |= {names[key]: value for key, value in changes.items()}
        self.paths: list[str] = []

    def __call__(self, head: bytes) -> bytes:
        path = head.split(b" ")[1].decode().partition("?")[0]
        self.paths.append(path)
        answered = self.answers[path]
        return answered(head) if callable(answered) else answered


@contextmanager
def scripted(script: Script, timeout_s: float = 5.0, **changes: object) -> Iterator[RucioUpstream]:
    server = LyingServer({"GET": script, "POST": script})
    values = {"username": "me", "password": SecretStr("secret"), "account": "root", "timeout_s": timeout_s}
    url = f"http://127.0.0.1:{server.port}"
    settings = UpstreamSettings(**({"name": "far", "type": "rucio", "url": url} | values | changes))
    upstream = RucioUpstream(settings, lambda: NOW_S)
    try:
        yield upstream
    finally:
        upstream.close()
        server.close()


def asked(script: Script, **changes: object) -> VseError:
    """Look a file up; return the error that it must end in."""
    with scripted(script, **changes) as upstream, pytest.raises(VseError) as raised:
        upstream.resolve([FILE])
    return raised.value


def test_the_script_itself_is_a_good_server() -> None:
    script = Script()
    with scripted(script) as upstream:
        located = upstream.resolve([FILE]).one(FILE)
        assert located.entry.size_bytes == 5 and located.replicas[0].url == "root://far//f1"
        assert [file.entry.lfn for file in upstream.find(Lfn(""), "*")] == [FILE]
        assert upstream.register_replicas([CopyMade(FILE, "MINE", None, 5, 1)]).failed.keys() == set()
    assert script.paths.count("/auth/userpass") == 1


HALVES = {
    "a body that is shorter than it says": stream(META, length=5000),
    "a line without its end": answer("200 OK", b'{"scope": "lhc"', Content_Type="application/x-json-stream"),
    "a connection that breaks off": stream(META, length=5000) + RESET,
    "no JSON": answer("200 OK", b"<html>\n", Content_Type="application/x-json-stream"),
    "a page": answer("200 OK", b"<html></html>", Content_Type="text/html"),
    "no objects": stream(["lhc", "f1"]),
    "another file": stream(META | {"name": "f2"}),
    "no name": stream(META | {"name": None}),
    "no size": stream(META | {"bytes": None}),
    "a negative size": stream(META | {"bytes": -1}),
    "a truth for a size": stream(META | {"bytes": True}),
    "a wrong checksum": stream(META | {"adler32": "xyz"}),
    "a long checksum": stream(META | {"adler32": "123456789"}),
    "a wrong GUID": stream(META | {"guid": "123"}),
    "a redirect": answer("302 Found", b"", Location="http://127.0.0.1:9/"),
    "nothing of the kind": answer("404 Not Found", b"nginx"),
}


@pytest.mark.parametrize("fault", HALVES)
def test_an_answer_that_cannot_be_understood_is_garbage(fault: str) -> None:
    error = asked(Script(meta=HALVES[fault]))
    assert isinstance(error, UpstreamGarbage)
    assert "upstream 'far'" in str(error) and "administrator" in error.todo


def test_half_a_list_of_replicas_is_no_answer() -> None:
    two = stream(META, META | {"name": "f2"})
    with scripted(Script(meta=two)) as upstream, pytest.raises(UpstreamGarbage, match="ends without lhc:f2"):
        upstream.resolve([FILE, Lfn("lhc:f2")])
    for rows in ([{**PLACES, "rses": None}], [{**PLACES, "pfns": []}], [PLACES, {**PLACES, "name": "f3"}]):
        assert isinstance(asked(Script(places=stream(*rows))), UpstreamGarbage)


def test_a_search_that_breaks_off_raises_after_what_was_good() -> None:
    broken = stream("f1", length=5000)
    with scripted(Script(search=broken)) as upstream, pytest.raises(UpstreamGarbage, match="broke off"):
        list(upstream.find(Lfn("lhc:"), "*"))
    with scripted(Script(search=stream({"name": "f1"}))) as upstream, pytest.raises(UpstreamGarbage):
        list(upstream.find(Lfn("lhc:"), "*"))
    with scripted(Script(scopes=answer("200 OK", b'{"lhc": 1}'))) as upstream, pytest.raises(UpstreamGarbage):
        list(upstream.find(Lfn(""), "*"))


def test_a_busy_server_says_when_to_ask_again() -> None:
    error = asked(Script(meta=answer("429 Too Many Requests", b"", Retry_After="120")))
    assert isinstance(error, UpstreamUnavailable) and error.retry_after_s == 120.0
    assert "left alone for 120 s" in str(error)
    error = asked(Script(login=answer("503 Service Unavailable", b"", Retry_After="soon")))
    assert isinstance(error, UpstreamUnavailable) and error.retry_after_s is None
    error = asked(Script(meta=refusal("500 Internal Server Error", "DatabaseException", "An unknown one")))
    assert isinstance(error, UpstreamUnavailable) and "DatabaseException: An unknown one" in str(error)


@pytest.mark.parametrize("where", ["login", "meta", "places"])
def test_a_silent_server_is_unavailable(where: str) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-json-stream\r\nContent-Length: 9\r\n\r\n"
    for silence in (STALL, begun + STALL):
        error = asked(Script(**{where: silence}), timeout_s=0.3)
        assert isinstance(error, UpstreamUnavailable) and "silent for 0.3 s" in str(error)


def test_a_token_is_kept_till_near_its_end_and_renewed_on_401_once() -> None:
    for life_s, logins in ((3600.0, 1), (100.0, 1)):
        script = Script(login=token(life_s=life_s))
        with scripted(script) as upstream:
            for _ in range(3):
                upstream.resolve([FILE])
        assert script.paths.count("/auth/userpass") == logins
    script = Script(login=token(life_s=0.0))
    with scripted(script) as upstream:
        upstream.resolve([FILE])
    assert script.paths.count("/auth/userpass") == 2
    expired = refusal("401 Unauthorized", "CannotAuthenticate", "Cannot authenticate with given credentials")
    first = [True]

    def once(head: bytes) -> bytes:
        return expired if first and first.pop() else stream(META)

    script = Script(meta=once)
    with scripted(script) as upstream:
        assert upstream.resolve([FILE]).ok
    assert script.paths.count("/auth/userpass") == 2
    script = Script(meta=expired)
    assert isinstance(asked(script), Denied)
    assert script.paths.count("/auth/userpass") == 2 and script.paths.count("/dids/bulkmeta") == 2


def test_what_the_account_may_not_do_is_denied() -> None:
    forbidden = refusal("403 Forbidden", "AccessDenied", "not yours")
    script = Script(meta=forbidden)
    error = asked(script)
    assert isinstance(error, Denied) and "not yours" in str(error) and "account 'root'" in error.todo
    assert script.paths.count("/auth/userpass") == 1
    error = asked(Script(login=answer("401 Unauthorized", b"")))
    assert isinstance(error, Denied)


def test_a_login_that_gives_no_token_is_no_rucio() -> None:
    assert isinstance(asked(Script(login=answer("200 OK", b"hello"))), UpstreamGarbage)
    assert isinstance(asked(Script(login=answer("404 Not Found", b""))), UpstreamGarbage)


def test_settings_without_a_way_to_log_in_are_a_fault_of_the_settings() -> None:
    error = asked(Script(), password=None)
    assert isinstance(error, BadSettings) and "[upstreams.far]" in error.todo


def test_a_token_from_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "token"
    place.write_text("from-a-file\n")
    heads: list[bytes] = []

    def meta(head: bytes) -> bytes:
        heads.append(head)
        return stream(META)

    script = Script(meta=meta)
    with scripted(script, username="", password=None, token_file=place) as upstream:
        assert upstream.resolve([FILE]).ok
    assert b"from-a-file" in heads[0] and "/auth/userpass" not in script.paths
    refused = Script(meta=refusal("401 Unauthorized", "CannotAuthenticate"))
    assert isinstance(asked(refused, username="", password=None, token_file=place), Denied)
    assert refused.paths == ["/dids/bulkmeta"]


def test_names_of_a_refused_call_are_asked_in_halves() -> None:
    bodies: list[int] = []

    def meta(head: bytes) -> bytes:
        bodies.append(1)
        if len(bodies) == 1:
            return refusal("400 Bad Request", "InvalidObject", "Problem validating dids")
        return stream(META) if len(bodies) == 2 else refusal("500 Internal Server Error", "InvalidObject")

    with scripted(Script(meta=meta)) as upstream:
        result = upstream.resolve([FILE, Lfn("lhc:a b")])
    assert set(result.ok) == {FILE} and isinstance(result.failed["lhc:a b"], NoSuchEntry)


def test_a_registration_that_cannot_be_sent_is_tried_again_and_one_refused_is_not() -> None:
    copy = CopyMade(FILE, "MINE", "root://mine//f1", 5, 1)
    for fault, retryable in (
        (refusal("503 Service Unavailable", "ResourceTemporaryUnavailable", "closed for writing"), True),
        (refusal("500 Internal Server Error", "DatabaseException"), True),
        (refusal("400 Bad Request", "InvalidPath", "does not match"), False),
        (refusal("404 Not Found", "ScopeNotFound"), False),
    ):
        script = Script(add=fault)
        try:
            with scripted(script) as upstream:
                error = upstream.register_replicas([copy]).failed[FILE]
        except VseError as raised:
            error = raised
        assert error.retryable is retryable, error
