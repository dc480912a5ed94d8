"""Rucio's catalogue: a real server, asked in bulk, behind the rules and the lookup cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from servers.rucio import ACCOUNT, PASSWORD, USERNAME, RucioServer, rucio
from vse.catalogue.lookup import Lookup
from vse.catalogue.port import CopyMade
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream import Mapped, build
from vse.catalogue.upstream.rucio import RucioUpstream
from vse.config.upstreams import MappingRule, UpstreamSettings
from vse.errors import AlreadyExists, BadRequest, Denied, NoSuchEntry, UpstreamUnavailable
from vse.model import Lfn, ReplicaState

pytestmark = pytest.mark.slow

COUNT = 1300
FAR = "root://far.example.org:1094//data"
RULE = MappingRule(upstream="{scope}:{rest...}", lfn="/rucio/{scope}/{rest...}")


def guid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def pfn(number: int) -> str:
    return f"{FAR}/stored/f{number}.root"


@pytest.fixture(scope="module")
def server() -> Iterator[RucioServer]:
    """`COUNT` files in a scope, some of them at a second RSE, whose URLs Rucio computes."""
    with rucio() as running:
        running.add_element("FAR_RSE", FAR)
        running.add_element("DAVS_RSE", "davs://davs.example.org:443/data", deterministic=True)
        running.add_element("MINE_RSE", "root://mine.example.org:1094//vse")
        for scope in ("lhc", "user.jdoe", "empty"):
            running.add_scope(scope)
        files = [
            {
                "scope": "lhc",
                "name": f"run{number % 3}/f{number}.root",
                "bytes": number + 1,
                "adler32": f"{number:08x}",
                "pfn": pfn(number),
                "meta": {"guid": guid(number).hex()},
            }
            for number in range(COUNT)
        ]
        for place in range(0, COUNT, 500):
            running.add_replicas("FAR_RSE", files[place : place + 500])
        both = [{key: value for key, value in file.items() if key != "pfn"} for file in files[:3]]
        running.add_replicas("DAVS_RSE", both)
        tricky = [
            {"scope": "user.jdoe", "name": name, "bytes": 7, "adler32": "00000007", "pfn": f"{FAR}/{place}"}
            for place, name in enumerate(
                ("true/a_b.root", "true/axb.root", "TRUE/c.root", "2020-01-01", "17")
            )
        ]
        running.add_replicas("FAR_RSE", tricky)
        running.add_dataset("lhc", "run0", [file["name"] for file in files[:3]])
        yield running


def settings(server: RucioServer, **changes: object) -> UpstreamSettings:
    values = {
        "name": "far",
        "type": "rucio",
        "url": server.url,
        "account": ACCOUNT,
        "username": USERNAME,
        "password": SecretStr(PASSWORD),
        "map": (RULE,),
        "elements": {"FAR_RSE": "FAR-DISK"},
        "timeout_s": 30.0,
    }
    return UpstreamSettings(**(values | changes))


def session_of(upstream: Mapped) -> int:
    driver = upstream.driver
    assert isinstance(driver, RucioUpstream)
    return driver.session.logins


@pytest.fixture
def upstream(server: RucioServer) -> Iterator[Mapped]:
    built = build(settings(server))
    yield built
    built.close()


def name_of(number: int) -> Lfn:
    return Lfn(f"/rucio/lhc/run{number % 3}/f{number}.root")


def test_a_file_is_described_with_its_copies(upstream: Mapped) -> None:
    located = upstream.resolve([name_of(2)]).one(name_of(2))
    entry = located.entry
    assert (entry.lfn, entry.kind, entry.size_bytes, entry.adler32, entry.guid) == (
        "/rucio/lhc/run2/f2.root",
        "file",
        3,
        2,
        guid(2),
    )
    assert (entry.owner, entry.group) == ("root", "lhc")
    assert entry.created_s > 1e9
    davs, far = located.replicas
    assert (davs.se, far.se) == ("DAVS_RSE", "FAR-DISK")
    assert far.url is not None and far.url.replace("//stored", "/stored") == pfn(2)
    assert davs.url is not None and davs.url.startswith("davs://davs.example.org:443/data/lhc/")
    assert {copy.state for copy in located.replicas} == {ReplicaState.AVAILABLE}
    assert {(copy.lfn, copy.origin) for copy in located.replicas} == {(name_of(2), "far")}


def test_more_names_than_rucio_takes_at_once(upstream: Mapped) -> None:
    names = [name_of(number) for number in range(COUNT)]
    missing = [Lfn("/rucio/lhc/none"), Lfn("/rucio/noscope/x"), Lfn("/elsewhere/x")]
    answer = upstream.resolve([*names, *missing, names[0]])
    assert set(answer.ok) == set(names)
    assert set(answer.failed) == set(missing)
    assert all(isinstance(error, NoSuchEntry) for error in answer.failed.values())
    assert session_of(upstream) == 1


def test_names_that_rucio_would_refuse_do_not_spoil_the_others(upstream: Mapped) -> None:
    bad = [
        Lfn("/rucio/lhc/" + "x" * 200 + "/" + "y" * 200),
        Lfn("/rucio/lhc/größe #1 100%"),
        Lfn("/rucio/a b/c"),
    ]
    good = [name_of(number) for number in range(50)]
    answer = upstream.resolve([*good[:20], *bad, *good[20:]])
    assert set(answer.ok) == set(good)
    assert set(answer.failed) == set(bad)
    assert all(isinstance(error, NoSuchEntry) for error in answer.failed.values())


def test_a_dataset_is_no_file(upstream: Mapped) -> None:
    answer = upstream.resolve([Lfn("/rucio/lhc/run0"), name_of(0)])
    assert isinstance(answer.failed["/rucio/lhc/run0"], NoSuchEntry)
    assert set(answer.ok) == {name_of(0)}


@pytest.mark.parametrize(
    ("base", "pattern", "count"),
    [
        ("/rucio/lhc", "*", COUNT),
        ("/rucio/lhc/run1", "*.root", len(range(1, COUNT, 3))),
        ("/rucio/lhc/run", "*", 0),
        ("/rucio/lhc", "f12?.root", 10),
        ("/rucio", "f1299.root", 1),
        ("/", "c.root", 1),
        ("/rucio/lhc/run1/f1.root", "*", 1),
        ("/rucio/lhc/run1/f1.root", "*.dat", 0),
        ("/rucio/user.jdoe/true", "a_b.root", 1),
        ("/rucio/user.jdoe/true", "*", 2),
        ("/rucio/user.jdoe", "2020-01-01", 1),
        ("/rucio/user.jdoe/17", "*", 1),
        ("/rucio/empty", "*", 0),
        ("/rucio/nowhere", "*", 0),
        ("/elsewhere", "*", 0),
    ],
)
def test_find(upstream: Mapped, base: str, pattern: str, count: int) -> None:
    found = [file.entry.lfn for file in upstream.find(Lfn(base), pattern)]
    assert len(found) == len(set(found)) == count
    assert all(lfn.is_below(base) for lfn in found)


def test_a_find_may_be_left_early(server: RucioServer) -> None:
    upstream = build(settings(server, batch=50))
    for _ in range(20):
        assert next(iter(upstream.find(Lfn("/rucio/lhc"), "*"))).entry.size_bytes
    assert session_of(upstream) == 1


def test_a_token_that_ended_is_renewed_once(server: RucioServer, upstream: Mapped) -> None:
    assert upstream.resolve([name_of(1)]).ok
    server.end_tokens()
    assert upstream.resolve([name_of(1)]).ok
    assert len(list(upstream.find(Lfn("/rucio/lhc/run1/f1.root"), "*"))) == 1
    assert session_of(upstream) == 2


def test_a_wrong_password_is_told_with_what_to_do(server: RucioServer) -> None:
    with pytest.raises(Denied, match=r"CannotAuthenticate.*account 'root' of upstreams.far"):
        build(settings(server, password=SecretStr("wrong"))).resolve([name_of(1)])
    with pytest.raises(Denied, match="CannotAuthenticate"):
        build(settings(server, account="nobody")).resolve([name_of(1)])


def test_a_server_that_is_gone_is_unavailable(server: RucioServer) -> None:
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        build(settings(server, url="http://127.0.0.1:9")).resolve([name_of(1)])


def test_behind_the_lookup_cache_it_is_asked_once(upstream: Mapped, catalogue: SqlCatalogue) -> None:
    lookup = Lookup(catalogue, [upstream], lambda: 1_700_000_000.0)
    found = list(lookup.find(Lfn("/rucio/lhc"), "*.root"))
    assert len(found) == COUNT and lookup.queries == 1
    names = [name_of(number) for number in range(COUNT)]
    assert set(lookup.resolve([*names, Lfn("/rucio/lhc/none")]).ok) == set(names)
    assert lookup.queries == 2  # for the one that is not there
    assert session_of(upstream) == 1


# ---- registering ---------------------------------------------------------------------------------


def copy(number: int, se: str = "MINE", url: str | None = None, **changes: int) -> CopyMade:
    url = url or f"root://mine.example.org:1094//vse/rucio/f{number}.root"
    size_bytes, adler32 = changes.get("size_bytes", number + 1), changes.get("adler32", number)
    return CopyMade(name_of(number), se, url, size_bytes, adler32)


@pytest.fixture
def registering(server: RucioServer) -> Iterator[Mapped]:
    elements = {"FAR_RSE": "FAR-DISK", "MINE_RSE": "MINE", "DAVS_RSE": "DAVS"}
    built = build(settings(server, elements=elements))
    yield built
    built.close()


def test_copies_made_here_are_known_there(server: RucioServer, registering: Mapped) -> None:
    copies = [copy(number) for number in range(10, 40)]
    for _ in range(2):  # idempotent
        answer = registering.register_replicas(copies)
        assert set(answer.ok) == {one.lfn for one in copies} and not answer.failed
    (row,) = server.list_replicas([{"scope": "lhc", "name": "run1/f10.root"}])
    assert set(row["rses"]) == {"FAR_RSE", "MINE_RSE"}
    assert [url.replace("//rucio", "/rucio") for url in row["rses"]["MINE_RSE"]] == [copies[0].url]


def test_where_rucio_computes_urls_it_is_given_none(server: RucioServer, registering: Mapped) -> None:
    answer = registering.register_replicas([copy(50, "DAVS", "file:///not/what/rucio/expects")])
    assert not answer.failed
    (row,) = server.list_replicas([{"scope": "lhc", "name": "run2/f50.root"}])
    assert set(row["rses"]) == {"FAR_RSE", "DAVS_RSE"}


def test_a_copy_that_cannot_be_right_is_refused_alone(server: RucioServer, registering: Mapped) -> None:
    unknown = CopyMade(Lfn("/rucio/lhc/of-mine.root"), "MINE", f"{FAR}/x", 1, None)
    other_size, other_sum = copy(60, size_bytes=5), copy(61, adler32=5)
    bad_url = copy(62, url="gopher://mine/x")
    good = copy(63)
    answer = registering.register_replicas([unknown, other_size, other_sum, bad_url, good])
    assert set(answer.ok) == {good.lfn}
    assert isinstance(answer.failed[unknown.lfn], NoSuchEntry)
    assert "5 bytes here and 61 there" in str(answer.failed[other_size.lfn])
    assert isinstance(answer.failed[other_sum.lfn], AlreadyExists)
    assert isinstance(answer.failed[bad_url.lfn], BadRequest)
    assert server.call("GET", "/dids/lhc/dids/search?type=file&name=of-mine*") == ""


def test_an_element_that_rucio_does_not_know_is_named(registering: Mapped) -> None:
    answer = registering.register_replicas([copy(70, "NOWHERE"), copy(71)])
    assert set(answer.ok) == {name_of(71)}
    assert "RSENotFound" in str(answer.failed[name_of(70)])


def test_the_server_is_a_real_one(server: RucioServer, tmp_path: Path) -> None:
    assert '"version":"41.5.0"' in server.call("GET", "/ping").replace(" ", "")
