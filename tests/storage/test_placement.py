"""Where a file is in a storage and what its URL is there, and back."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.config.settings import ElementSettings, ProtocolSettings
from vse.errors import BadLfn, BadRequest, VseError
from vse.model import Lfn
from vse.storage.drivers import build
from vse.storage.placement import (
    at_vo,
    guid_at,
    guid_path,
    path_at,
    path_below,
    path_in,
    place_of,
    placed,
    url_of,
)
from vse.testing.drivers import NAMES

SEED_GUID = uuid.UUID("a35d75fe-e02e-11e3-bde3-9bcb3904c079").bytes
SEED_PATH = "/09/43427/a35d75fe-e02e-11e3-bde3-9bcb3904c079"


def section(name: str = "S", **keys: object) -> ProtocolSettings:
    return ProtocolSettings.model_validate({"Section": name} | keys)


ROOT = section("GFAL2_XROOT", Host="eoslhcb.cern.ch", Port=1095, Path="/eos/lhcb")
SRM = section(
    "GFAL2_SRM2", Host="srm-lhcb.cern.ch", Port=8443, Path="/castor/cern.ch/grid", WSUrl="/srm/managerv2?SFN="
)
HTTP = section("HTTP", Protocol="http", Host="SE.example.org", Port=8080, Path="/data")
DAVS = section("HTTP", Protocol="davs", Host="se.example.org", Port=443, Path="/data")
SIX = section("HTTP", Protocol="https", Host="[::1]", Port=1234, Path="/data")
FILE = section("File", Path="/mnt/lustre_3")
FTP = section("GFAL2_GSIFTP", Host="ftp.example.org", Path="/")
ALL = [ROOT, SRM, HTTP, DAVS, SIX, FILE, FTP]


# -- by GUID -----------------------------------------------------------------------------------------


def test_a_guid_is_placed_as_in_the_link_of_seed_000() -> None:
    assert guid_path(SEED_GUID) == SEED_PATH
    assert guid_at("/", SEED_PATH) == SEED_GUID
    assert guid_at("/xrootd/", f"/xrootd{SEED_PATH}") == SEED_GUID


@given(st.uuids(), st.sampled_from(["/", "/data", "/data/"]))
def test_a_guids_path_leads_back_to_it(guid: uuid.UUID, base: str) -> None:
    by_guid = section("File", Path=base, Placement="guid")
    path = place_of(by_guid, Lfn("/any"), guid.bytes)
    two, five, last = path.removeprefix(base.rstrip("/")).removeprefix("/").split("/")
    assert (len(two), len(five), last) == (2, 5, str(guid))
    assert int(two) < 16
    assert int(five) < 255 * 256
    assert placed(by_guid, path) == (None, guid.bytes)


@pytest.mark.parametrize(
    "path",
    [
        SEED_PATH.replace("09/", "08/"),
        SEED_PATH.upper(),
        "/09/43427/nonsense",
        f"/other{SEED_PATH}",
        "/09/43427/../43427/a35d75fe-e02e-11e3-bde3-9bcb3904c079",
    ],
)
def test_a_path_that_is_no_guids_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        guid_at("/", path)


def test_where_files_are_by_guid_names_need_one() -> None:
    by_guid = section("File", Path="/xrootd", Placement="guid")
    with pytest.raises(BadRequest, match="by GUID, and none is known"):
        place_of(by_guid, Lfn("/alice/a.root"))
    with pytest.raises(BadRequest, match="3 bytes"):
        place_of(by_guid, Lfn("/alice/a.root"), b"abc")
    for directory in ("/", "/09", "/09/43427"):
        path = place_of(by_guid, Lfn(directory))
        assert path == f"/xrootd{directory}".rstrip("/")
        assert placed(by_guid, path) == (Lfn(directory), None)
    by_lfn = section("File", Path="/xrootd")
    assert place_of(by_lfn, Lfn("/a"), SEED_GUID) == "/xrootd/a"


# -- VOPath ------------------------------------------------------------------------------------------


def test_vo_path_as_in_the_seed() -> None:
    se = ElementSettings.model_validate(
        {
            "Name": "CERN-USER",
            "AccessProtocol.1": {
                "PluginName": "SRM2",
                "Protocol": "srm",
                "Host": "srm-lhcb.cern.ch",
                "Port": 8443,
                "WSUrl": "/srm/managerv2?SFN=",
                "Path": "/castor/cern.ch/grid",
                "VOPath": {"biomed": "/castor/cern.ch/biomed/grid"},
            },
        }
    )
    front = "srm://srm-lhcb.cern.ch:8443/srm/managerv2?SFN="
    for vo, path in (("lhcb", "/castor/cern.ch/grid"), ("biomed", "/castor/cern.ch/biomed/grid")):
        only = at_vo(se, vo).protocols[0]
        url = url_of(only, place_of(only, Lfn(f"/{vo}/f")))
        assert url == f"{front}{path}/{vo}/f"
        assert placed(only, path_in(only, url)).lfn == f"/{vo}/f"


# -- URLs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "url"),
    [
        (ROOT, "root://eoslhcb.cern.ch:1095//eos/lhcb/a b%41.root"),
        (SRM, "srm://srm-lhcb.cern.ch:8443/srm/managerv2?SFN=/castor/cern.ch/grid/a b%41.root"),
        (HTTP, "http://se.example.org:8080/data/a%20b%2541.root"),
        (DAVS, "davs://se.example.org/data/a%20b%2541.root"),
        (SIX, "https://[::1]:1234/data/a%20b%2541.root"),
        (FILE, "file:///mnt/lustre_3/a%20b%2541.root"),
        (FTP, "gsiftp://ftp.example.org/a b%41.root"),
    ],
)
def test_urls_of_each_protocol(where: ProtocolSettings, url: str) -> None:
    path = path_at(where.path, "/a b%41.root")
    assert url_of(where, path) == url
    assert path_in(where, url) == path


_names = st.one_of(
    st.sampled_from(NAMES), st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
)


@given(st.lists(_names, min_size=1, max_size=4), st.sampled_from(ALL))
def test_a_url_leads_back_to_its_lfn(parts: list[str], where: ProtocolSettings) -> None:
    try:
        lfn = Lfn.parse("/" + "/".join(part for part in parts))
    except BadLfn:
        return
    url = url_of(where, place_of(where, lfn))
    assert placed(where, path_in(where, url)).lfn == lfn
    if where.section != "GFAL2_SRM2":
        assert path_below(url) == path_in(where, url)


@given(_names, st.sampled_from([HTTP, DAVS, SIX, FILE]))
def test_the_drivers_write_the_same_urls(name: str, where: ProtocolSettings) -> None:
    path = f"{where.path}/{name}"
    assert build(where, 1).url(path) == url_of(where, path)


@given(st.text(max_size=40), st.sampled_from(ALL))
def test_any_text_is_a_url_of_the_section_or_refused(text: str, where: ProtocolSettings) -> None:
    for url in (text, f"root://{text}", f"srm://srm-lhcb.cern.ch:8443{text}", f"http://{text}/data"):
        try:
            assert path_in(where, url).startswith("/")
        except VseError as error:
            assert isinstance(error, BadRequest)


@pytest.mark.parametrize(
    ("where", "url"),
    [
        (ROOT, "root://eoslhcb.cern.ch//eos/lhcb/f"),
        (ROOT, "root://other.cern.ch:1095//eos/lhcb/f"),
        (ROOT, "roots://eoslhcb.cern.ch:1095//eos/lhcb/f"),
        (SRM, "srm://srm-lhcb.cern.ch:8443/srm/v2/server?SFN=/castor/cern.ch/grid/f"),
        (SRM, "srm://srm-lhcb.cern.ch:8444/srm/managerv2?SFN=/castor/cern.ch/grid/f"),
        (HTTP, "https://se.example.org:8080/data/f"),
        (HTTP, "http://se.example.org:8080/data/f?token=x"),
        (HTTP, "http://se.example.org:99999999/data/f"),
        (HTTP, "http://[broken/data/f"),
        (FILE, "file://elsewhere/mnt/lustre_3/f"),
        (FILE, "/mnt/lustre_3/f"),
    ],
)
def test_a_url_of_another_place_is_refused(where: ProtocolSettings, url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        path_in(where, url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize(
    ("where", "url"),
    [
        (ROOT, "xroot://EOSLHCB.cern.ch:1095//eos/lhcb/f"),
        (ROOT, "root://someproxy@eoslhcb.cern.ch:1095//eos/lhcb/f"),
        (ROOT, "root://eoslhcb.cern.ch:1095/eos/lhcb/f"),
        (SRM, "srm://srm-lhcb.cern.ch/castor/cern.ch/grid/f"),
        (DAVS, "https://se.example.org:443/data/f"),
    ],
)
def test_other_spellings_of_the_same_place(where: ProtocolSettings, url: str) -> None:
    assert path_in(where, url) == f"{where.path}/f"
