"""Which protocol is taken, and why the others are not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vse.config.settings import DataManagement, ElementSettings
from vse.errors import NoPlan
from vse.model import Lfn, Replica, ReplicaState
from vse.storage.negotiation import plan, plan_read, plan_url

SITE = DataManagement()
LFN = Lfn("/lhc/a.root")
FILE = {"Protocol": "file", "Path": "/store"}
HTTP = {"Protocol": "http", "Host": "se.example.org", "Port": 8080, "Path": "/data"}
HTTPS = {"Protocol": "https", "Host": "se.example.org", "Path": "/data"}
ROOT = {"Protocol": "root", "Host": "se.example.org", "Path": "/eos"}


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
        "CERN-USER",
        NEW_XROOT=ROOT | {"PluginName": "GFAL3_XROOT"},
        DIP={"Protocol": "dips", "Host": "dirac.example.org"},
        File=FILE | {"Access": "local"},
        HTTP=HTTP,
        AccessProtocols=("root",),
    )
    with pytest.raises(NoPlan) as caught:
        plan(se, SITE, "read", at_site=False)
    text = str(caught.value)
    assert text.startswith("cannot read from the storage element CERN-USER: ")
    assert "CERN-USER by NEW_XROOT: there is no driver named 'GFAL3_XROOT'" in text
    assert "CERN-USER by DIP: dips is spoken by DIRAC's own services only" in text
    assert "CERN-USER by File: its Access is local, and we are not at its site" in text
    assert "CERN-USER by HTTP: the protocol http is not among AccessProtocols (root)" in text
    with pytest.raises(NoPlan, match="no protocol section"):
        plan(element(), SITE, "read")


def test_staging_has_an_order_of_its_own_as_in_dirac() -> None:
    sections = {"GFAL2_XROOT": ROOT, "GFAL2_HTTPS": {"Host": "se.example.org"}}
    site = DataManagement(AccessProtocols=("https", "root"))
    tape = site.model_copy(update={"stage_protocols": ("root",)})
    assert taken(element(**sections), "stage", site) == ["GFAL2_HTTPS", "GFAL2_XROOT"]
    assert taken(element(**sections), "stage", tape) == ["GFAL2_XROOT"]
    own_access = element(**sections, AccessProtocols=("https",))
    assert taken(own_access, "stage", tape) == ["GFAL2_HTTPS"]
    cta = element(**sections, AccessProtocols=("https",), StageProtocols=("root",))
    assert taken(cta, "stage", site) == ["GFAL2_XROOT"]
    assert taken(cta, "read", site) == ["GFAL2_HTTPS"]
    with pytest.raises(NoPlan, match=r"cannot bring files from tape at .*: SE: ReadAccess is off"):
        taken(element(**sections, ReadAccess=False), "stage", site)


def test_a_local_section_comes_before_a_remote_one_of_the_same_protocol() -> None:
    se = element(**{"HTTP.1": HTTP, "HTTP.2": HTTP | {"Access": "local"}})
    se = se.model_copy(
        update={"protocols": tuple(one.model_copy(update={"plugin_name": "HTTP"}) for one in se.protocols)}
    )
    assert taken(se, at_site=True) == ["HTTP.2", "HTTP.1"]
    assert taken(se, at_site=False) == ["HTTP.1"]


def test_local_access_with_output_protocols_as_in_the_seed() -> None:
    """Seed 003, "Locally mounted filesystems, With SRM2"."""
    se = element(
        "CNAF-Disk",
        GFAL2_SRM2_LOCAL={
            "PluginName": "GFAL2_SRM2",
            "Host": "storm-fe-lhcb.cr.cnaf.infn.it",
            "Port": 8444,
            "Protocol": "srm",
            "Path": "/disk",
            "Access": "local",
            "SpaceToken": "LHCb-Disk",
            "WSUrl": "/srm/managerv2?SFN=",
            "OutputProtocols": "file, https, gsiftp, root, srm",
        },
        GFAL2_XROOT=ROOT,
    )
    at_home = plan_url(se, SITE, ["file"])
    assert [section.section for section in at_home.sections] == ["GFAL2_SRM2_LOCAL"]
    assert [one.section for one in at_home.rejected] == ["GFAL2_XROOT"]
    with pytest.raises(NoPlan, match=r"by GFAL2_SRM2_LOCAL: its Access is local.*it gives URLs of root"):
        plan_url(se, SITE, ["file"], at_site=False)
    preferred = plan_url(se, SITE, ["root"]).sections
    assert [section.section for section in preferred] == ["GFAL2_XROOT", "GFAL2_SRM2_LOCAL"]


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


def test_a_url_that_the_settings_make_of_the_lfn_is_read_by_every_section() -> None:
    assert read(replica("C-FAR", "http://c.example.org:8080/data/lhc/a.root")) == [
        ("C-FAR", "HTTPS"),
        ("C-FAR", "HTTP"),
    ]


def test_with_use_catalog_url_the_path_of_the_catalogue_holds_on_every_server() -> None:
    url = "http://old.example.org:1/data/elsewhere/a.root"
    sections = {"HTTP": HTTP, "HTTPS": HTTPS}
    for wanted, name in ((["HTTPS", "HTTP"], "USES"), ([], "MAKES")):
        elements = {name: element(name, **sections, UseCatalogURL=name == "USES")}
        if wanted:
            pairs = plan_read([replica(name, url)], elements, SITE).pairs
            assert [pair.section.section for pair in pairs] == wanted
            assert {pair.replica.url for pair in pairs} == {url}
            with pytest.raises(NoPlan, match="outside of Path"):
                plan_read([replica(name, "http://old.example.org:1/etc/passwd")], elements, SITE)
        else:
            with pytest.raises(NoPlan, match=r"MAKES by HTTP: .*'http://old.*another server"):
                plan_read([replica(name, url)], elements, SITE)


# -- for every configuration -------------------------------------------------------------------------

_protocols = st.sampled_from(["file", "http", "https", "davs", "root", "srm", "gsiftp", "dips", ""])
_sections = st.fixed_dictionaries(
    {
        "Protocol": _protocols,
        "PluginName": st.sampled_from(
            ["", "File", "HTTP", "GFAL2_HTTPS", "GFAL2_XROOT", "GFAL2_SRM2", "DIP"]
        ),
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


@pytest.mark.slow
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


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(_elements(), st.sampled_from(["read", "check", "write", "remove", "stage"]), st.booleans())
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
