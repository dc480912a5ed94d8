"""Which protocol is taken, and why the others are not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vse.config.settings import DataManagement, ElementSettings
from vse.errors import NoPlan
from vse.model import Lfn, Replica, ReplicaState
from vse.storage.negotiation import plan, plan_read

SITE = DataManagement()
LFN = Lfn("/lhc/a.root")
FILE = {"Protocol": "file", "Path": "/store"}
HTTP = {"Protocol": "http", "Host": "se.example.org", "Port": 8080, "Path": "/data"}
HTTPS = {"Protocol": "https", "Host": "se.example.org", "Path": "/data"}
ROOT = {"PluginName": "GFAL2_XROOT", "Protocol": "root", "Host": "se.example.org"}


def element(name: str = "SE", **keys: object) -> ElementSettings:
    return ElementSettings.model_validate({"Name": name} | keys)


def replica(se: str = "SE", url: str | None = None, state: ReplicaState = ReplicaState.AVAILABLE) -> Replica:
    return Replica(LFN, se, url, state, None, "")


def taken(
    se: ElementSettings, operation: str = "read", site: DataManagement = SITE, **how: bool
) -> list[str]:
    return [section.section for section in plan(se, site, operation, **how).sections]  # type: ignore[arg-type]


# -- one element -------------------------------------------------------------------------------------


def test_the_sites_order_holds_where_the_element_has_none() -> None:
    se = element(HTTP=HTTP, HTTPS=HTTPS, File=FILE)
    assert taken(se) == ["File", "HTTPS", "HTTP"]
    assert taken(se, site=DataManagement(AccessProtocols=("http", "file"))) == ["HTTP", "File"]
    assert taken(se, "write", DataManagement(WriteProtocols=("https",))) == ["HTTPS"]


def test_the_elements_own_order_overrides_the_sites() -> None:
    se = element(HTTP=HTTP, File=FILE, AccessProtocols=("http", "file"), WriteProtocols=("file",))
    assert taken(se, "read") == ["HTTP", "File"]
    assert taken(se, "check") == ["HTTP", "File"]
    assert taken(se, "write") == ["File"]
    assert taken(se, "remove") == ["File"]


def test_equal_protocols_keep_the_order_they_are_written_in() -> None:
    sections = {f"AccessProtocol.{number}": HTTP | {"Port": 80 + number} for number in (3, 1, 2)}
    assert taken(element(**sections)) == ["AccessProtocol.3", "AccessProtocol.1", "AccessProtocol.2"]


def test_local_sections_are_for_the_site_itself() -> None:
    se = element(File=FILE | {"Access": "local"}, HTTP=HTTP)
    assert taken(se, at_site=True) == ["File", "HTTP"]
    assert taken(se, at_site=False) == ["HTTP"]
    assert "local" in plan(se, SITE, "read", at_site=False).rejected[0].reason


@pytest.mark.parametrize(
    ("keys", "allowed"),
    [
        ({}, {"read", "check", "write", "remove"}),
        ({"ReadAccess": "Banned"}, {"check", "write", "remove"}),
        ({"WriteAccess": "InActive"}, {"read", "check", "remove"}),
        ({"RemoveAccess": False}, {"read", "check", "write"}),
        ({"CheckAccess": False}, {"read", "check", "write", "remove"}),
        ({"CheckAccess": False, "ReadAccess": False}, {"write", "remove"}),
        ({"ReadAccess": "Active", "WriteAccess": "Active"}, {"read", "check", "write", "remove"}),
    ],
)
def test_what_the_settings_forbid(keys: dict[str, object], allowed: set[str]) -> None:
    se = element(File=FILE, **keys)
    for operation in ("read", "check", "write", "remove"):
        if operation in allowed:
            assert taken(se, operation) == ["File"]
        else:
            with pytest.raises(NoPlan, match="Access is off"):
                taken(se, operation)


def test_every_reason_is_told() -> None:
    se = element(
        "CERN-USER", GFAL2_XROOT=ROOT, File=FILE | {"Access": "local"}, HTTP=HTTP, AccessProtocols=("root",)
    )
    with pytest.raises(NoPlan) as caught:
        plan(se, SITE, "read", at_site=False)
    text = str(caught.value)
    assert text.startswith("cannot read from the storage element CERN-USER: ")
    assert "CERN-USER by GFAL2_XROOT: there is no driver named 'GFAL2_XROOT'" in text
    assert "CERN-USER by File: its Access is local, and we are not at its site" in text
    assert "CERN-USER by HTTP: the protocol http is not among AccessProtocols (root)" in text
    with pytest.raises(NoPlan, match="no protocol section"):
        plan(element(), SITE, "read")


# -- the copies of a file ----------------------------------------------------------------------------

ELEMENTS = {
    "B-NEAR": element("B-NEAR", File=FILE | {"Access": "local"}),
    "A-FAR": element("A-FAR", HTTP=HTTP | {"Host": "a.example.org"}),
    "C-FAR": element("C-FAR", HTTP=HTTP | {"Host": "c.example.org"}, HTTPS=HTTPS),
    "D-OFF": element("D-OFF", HTTP=HTTP, ReadAccess=False),
}


def read(*replicas: Replica, **how: object) -> list[tuple[str, str]]:
    pairs = plan_read(replicas, ELEMENTS, SITE, **how).pairs  # type: ignore[arg-type]
    return [(pair.replica.se, pair.section.section) for pair in pairs]


def test_local_copies_first_then_preference_then_name() -> None:
    replicas = [replica(name) for name in ("C-FAR", "A-FAR", "B-NEAR")]
    assert read(*replicas) == [("B-NEAR", "File"), ("C-FAR", "HTTPS"), ("A-FAR", "HTTP"), ("C-FAR", "HTTP")]
    assert read(*replicas, elsewhere=["B-NEAR"])[0] == ("C-FAR", "HTTPS")


def test_copies_that_cannot_be_read_are_told_with_their_reason() -> None:
    found = plan_read(
        [
            replica("A-FAR"),
            replica("B-NEAR", state=ReplicaState.SUSPECT),
            replica("C-FAR", state=ReplicaState.LOST),
            replica("D-OFF"),
            replica("UNKNOWN"),
        ],
        ELEMENTS,
        SITE,
    )
    assert [pair.replica.se for pair in found.pairs] == ["A-FAR"]
    assert [str(one) for one in found.rejected] == [
        "B-NEAR: the copy is suspect",
        "C-FAR: the copy is lost",
        "D-OFF: ReadAccess is off in the settings",
        "UNKNOWN: no storage element of this name is in the settings",
    ]
    with pytest.raises(NoPlan, match=r"cannot read /lhc/a\.root: UNKNOWN: no storage element"):
        read(replica("UNKNOWN"))
    with pytest.raises(NoPlan, match="no copy of it is known"):
        read()


@pytest.mark.parametrize(
    ("url", "section"),
    [
        ("http://c.example.org:8080/data/elsewhere/a.root", "HTTP"),
        ("http://C.Example.org:8080/data/a.root", "HTTP"),
        ("https://se.example.org/data/a.root", "HTTPS"),
        ("https://se.example.org:443/data/a.root", "HTTPS"),
        ("http://c.example.org:8081/data/a.root", None),
        ("http://other.example.org:8080/data/a.root", None),
        ("root://c.example.org//data/a.root", None),
        ("http://c.example.org:8080/private/a.root", None),
        ("http://c.example.org:8080/data/../private/a.root", None),
        ("http://c.example.org:8080/data/%2e%2e/private/a.root", None),
        ("http://c.example.org:99999999/data/a.root", None),
        ("http://[broken/data/a.root", None),
        ("", None),
    ],
)
def test_a_copys_own_url_belongs_to_the_section_of_its_server(url: str, section: str | None) -> None:
    if section is None:
        with pytest.raises(NoPlan, match="URL"):
            read(replica("C-FAR", url))
    else:
        assert read(replica("C-FAR", url)) == [("C-FAR", section)]


# -- for every configuration -------------------------------------------------------------------------

_protocols = st.sampled_from(["file", "http", "https", "davs", "root", ""])
_sections = st.fixed_dictionaries(
    {
        "Protocol": _protocols,
        "PluginName": st.sampled_from(["", "File", "HTTP", "GFAL2_HTTPS", "GFAL2_XROOT"]),
        "Host": st.sampled_from(["", "a.example.org", "b.example.org"]),
        "Path": st.sampled_from(["/", "/data", "/data/"]),
        "Access": st.sampled_from(["local", "remote"]),
    }
)
_orders = st.lists(_protocols, max_size=4).map(tuple)
_names = st.sampled_from(["A", "B", "C"])


@st.composite
def _elements(draw: st.DrawFn) -> dict[str, ElementSettings]:
    found = {}
    for name in draw(st.sets(_names)):
        sections = draw(
            st.dictionaries(st.sampled_from(["File", "HTTP", "X.1", "X.2"]), _sections, max_size=4)
        )
        access = {
            key: draw(st.booleans()) for key in ("ReadAccess", "WriteAccess", "CheckAccess", "RemoveAccess")
        }
        orders = {"AccessProtocols": draw(_orders), "WriteProtocols": draw(_orders)}
        found[name] = element(name, **sections, **access, **orders)
    return found


_replicas = st.lists(
    st.builds(
        replica,
        st.sampled_from(["A", "B", "C", "NONE"]),
        st.sampled_from(
            [None, "", "http://a.example.org/data/x", "file:///data/x", "http://[", "https://b/../x"]
        ),
        st.sampled_from(list(ReplicaState)),
    ),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(
    _elements(), _replicas, st.sets(_names), st.builds(DataManagement, AccessProtocols=_orders), st.randoms()
)
def test_plans_are_the_same_in_every_order_and_never_take_what_is_forbidden(
    elements: dict[str, ElementSettings],
    replicas: list[Replica],
    elsewhere: set[str],
    site: DataManagement,
    shuffle: random.Random,
) -> None:
    def attempt(elements: dict[str, ElementSettings], replicas: list[Replica]) -> object:
        try:
            return plan_read(replicas, elements, site, elsewhere=elsewhere)
        except NoPlan as error:
            return str(error)

    found = attempt(elements, replicas)
    names, others = list(elements), list(replicas)
    shuffle.shuffle(names)
    shuffle.shuffle(others)
    assert attempt({name: elements[name] for name in names}, others) == found
    if isinstance(found, str):
        return
    assert found.pairs  # type: ignore[attr-defined]
    for taken_replica, section in found.pairs:  # type: ignore[attr-defined]
        se = elements[taken_replica.se]
        assert se.read_access
        assert taken_replica.state is ReplicaState.AVAILABLE
        assert section.access == "remote" or se.name not in elsewhere
        assert not section.protocol or section.protocol in (se.access_protocols or site.access_protocols)
    told = {one.se for one in found.rejected} | {pair.replica.se for pair in found.pairs}  # type: ignore[attr-defined]
    assert told == {one.se for one in replicas}


@settings(max_examples=200, deadline=None)
@given(_elements(), st.sampled_from(["read", "check", "write", "remove"]), st.booleans())
def test_an_element_gives_a_plan_or_every_reason(
    elements: dict[str, ElementSettings], operation: str, at_site: bool
) -> None:
    for se in elements.values():
        try:
            found = plan(se, SITE, operation, at_site=at_site)  # type: ignore[arg-type]
        except NoPlan as error:
            assert se.name in error.found
        else:
            assert len(found.sections) + len(found.rejected) == len(se.protocols)
            assert found == plan(se, SITE, operation, at_site=at_site)  # type: ignore[arg-type]
