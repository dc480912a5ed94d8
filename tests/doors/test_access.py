"""Nothing is open by accident: every route and method, with no, a wrong and the right token."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.door_site import TOKEN, MakeSite, Site
from vse.config.settings import HttpDoorSettings
from vse.doors.http.access import DoorAccess, Need, ensure_token
from vse.doors.http.app import create_app
from vse.doors.http.data import METHODS
from vse.errors import BadSettings

WHOLE = """access add_replicas by_guid change_access details expired find forget_trash history list
    make_directories make_links mark_replicas members note_access put_collection register remove
    remove_replicas rename resolve stat trash undelete""".split()  # noqa: SIM905
CHANGES = ("cancel", "retry", "priority")
API = [
    ("GET", "/api/v1/health"),
    *(("POST", f"/api/v1/catalogue/{what}") for what in ("find", "list", "resolve", "stat")),
    *(("POST", f"/api/v1/names/{what}") for what in WHOLE),
    ("GET", "/api/v1/staging/requests"),
    ("GET", "/api/v1/staging/requests/{number}"),
    ("GET", "/api/v1/staging/why"),
    ("POST", "/api/v1/staging/requests"),
    *(("POST", f"/api/v1/staging/requests/{{number}}/{what}") for what in CHANGES),
]
STAGING = {"/api/v1/staging/requests", *(f"/api/v1/staging/requests/{{number}}/{what}" for what in CHANGES)}
READS = {"GET", "HEAD", "PROPFIND", "OPTIONS"}
WRITES = {"PUT", "DELETE", "MKCOL", "MOVE"}


class NoNames:
    """A catalogue that must never be reached."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was called by somebody without a right")


class NoCalls:
    """A whole catalogue none of whose calls may be reached."""

    def __getattr__(self, name: str) -> object:
        def call(**_given: object) -> object:
            raise AssertionError(f"{name} was called by somebody without a right")

        return call


def test_this_file_knows_every_route_and_method() -> None:
    """A new route must be added here, and with it the decision who may use it."""
    app = create_app(DoorAccess(), None, NoNames(), whole=NoCalls(), desk=NoNames())  # type: ignore[arg-type]
    found = {(method, guarded.route.path) for guarded in app.routes for method in guarded.route.methods or ()}
    assert {one for one in found if one[0] != "HEAD"} == set(API)
    assert set(METHODS) == READS | WRITES
    assert {name for name, method in METHODS.items() if method.need is Need.WRITE} == WRITES
    assert [guarded.route.path for guarded in app.routes if guarded.need is Need.NOTHING] == [
        "/api/v1/health"
    ]
    whole = {f"/api/v1/names/{what}" for what in WHOLE}
    assert {guarded.route.path for guarded in app.routes if guarded.need is Need.WRITE} == whole | STAGING


def everything() -> list[tuple[str, str]]:
    """Every route with every method, known or not, and paths that are no route at all."""
    paths = [path for _, path in API] + [
        "/",
        "/data",
        "/data/",
        "/data/x",
        "/data/x/",
        "/datax",
        "/api",
        "//",
    ]
    methods = [*sorted(READS | WRITES), "POST", "PATCH", "COPY", "LOCK", "TRACE", "PROPPATCH"]
    return [(method, path) for path in paths for method in methods]


@pytest.mark.slow
@pytest.mark.parametrize(
    "access",
    [
        DoorAccess("token", "token", TOKEN),
        DoorAccess("token", "none", TOKEN),
        DoorAccess("token", "token", ""),
    ],
)
def test_without_the_token_only_health_answers(make_site: MakeSite, access: DoorAccess) -> None:
    site = make_site(access, NoNames(), whole=NoCalls(), desk=NoNames())
    (site.root / "x").write_bytes(b"x")
    for method, path in everything():
        if (method, path) in [("GET", "/api/v1/health"), ("HEAD", "/api/v1/health")]:
            continue
        forbidden = access.write == "none" and method in WRITES and path.startswith(("/data/", "/data"))
        forbidden = forbidden and path != "/datax"
        forbidden = forbidden or (access.write == "none" and path.startswith("/api/v1/names/"))
        forbidden = forbidden or (
            access.write == "none" and (method == "POST" or path.endswith(CHANGES)) and path in STAGING
        )
        if path == "/api/v1/health":
            assert site.ask(method, path, token=None).status in (403, 405)
            continue
        answer = site.ask(method, path, token=None)
        assert answer.status == (403 if forbidden else 401), (method, path, answer)
        if answer.status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for wrong in ("wrong", "", TOKEN + "x", TOKEN[:-1], "ü"):
            answer = site.ask(method, path, token=wrong.encode().decode("latin-1"))
            assert answer.status == 403, (method, path, wrong, answer)
    assert (site.root / "x").read_bytes() == b"x"
    assert site.left_behind() == ["x"]


def test_other_schemes_than_bearer_are_refused(site: Site) -> None:
    for sent in (f"Basic {TOKEN}", TOKEN, f"Token {TOKEN}", f"Bearer{TOKEN}"):
        assert site.ask("GET", "/data/small.txt", token=None, Authorization=sent).status == 403
    assert site.ask("GET", "/data/small.txt", token=None, Authorization=f"bearer {TOKEN}").status == 200


def test_anonymous_reading_opens_nothing_else(make_site: MakeSite) -> None:
    site = make_site(DoorAccess("anonymous", "none"))
    (site.root / "x").write_bytes(b"x")
    assert site.ask("GET", "/data/x", token=None).body == b"x"
    assert site.ask("PROPFIND", "/data/", token=None).status == 207
    for method in sorted(WRITES):
        for token in (None, TOKEN, ""):
            assert site.ask(method, "/data/x", token=token).status == 403
    assert site.ask("GET", "/nothing", token=None).status == 404


def test_health_tells_nothing(site: Site) -> None:
    assert json.loads(site.ask("GET", "/api/v1/health", token=None).body) == {"status": "ok"}


def test_token_file_is_made_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "var" / "door.token"
    token = ensure_token(path)
    assert len(token) >= 43 and path.read_text().strip() == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_token(path) == token
    assert [entry.name for entry in path.parent.iterdir()] == ["door.token"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "door.token"
    ensure_token(path)
    path.chmod(mode)
    with pytest.raises(BadSettings, match="chmod 600"):
        ensure_token(path)


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "door.token"
    path.touch(0o600)
    with pytest.raises(BadSettings, match="empty"):
        ensure_token(path)


def test_processes_that_start_together_agree_on_the_token(tmp_path: Path) -> None:
    path = tmp_path / "door.token"
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: ensure_token(path), range(64)))) == 1


def test_access_from_settings(tmp_path: Path) -> None:
    path = tmp_path / "t"
    access = DoorAccess.from_settings(HttpDoorSettings(token_file=path))
    assert (access.read, access.write, access.token) == ("token", "none", path.read_text().strip())
    assert access.token not in repr(access)
    path.unlink()
    assert DoorAccess.from_settings(HttpDoorSettings(read="anonymous", token_file=path)).token == ""
    assert not path.exists()
