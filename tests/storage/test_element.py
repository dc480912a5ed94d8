"""Storage elements, spoken to by LFN."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.served_door import Served
from vse.config.settings import ElementSettings, ProtocolSettings, Settings
from vse.errors import (
    BadLfn,
    BadRequest,
    BadSettings,
    Denied,
    NoPlan,
    NoSuchElement,
    NoSuchFile,
    Unsupported,
)
from vse.model import Lfn, Replica, ReplicaState
from vse.storage.element import Elements, StorageElement, lfn_at, path_at
from vse.testing.drivers import adler32, pattern

DATA = pattern(3000)


def settings_of(elements: dict[str, object], **tables: object) -> Settings:
    return Settings.model_validate({"StorageElements": elements} | tables)


def disk(path: Path, **keys: object) -> dict[str, object]:
    return {"File": {"Protocol": "file", "Path": str(path), "Access": "local"}} | keys


def web(**keys: object) -> dict[str, object]:
    return {"HTTP": {"Protocol": "http", "Host": "se.example.org", "Path": "/data"}} | keys


@pytest.fixture
def element(tmp_path: Path) -> StorageElement:
    (tmp_path / "store").mkdir()
    return Elements.from_settings(settings_of({"DISK": disk(tmp_path / "store")})).get("DISK")


def store(element: StorageElement, lfn: Lfn, data: bytes = DATA) -> None:
    with element.put(lfn, len(data), adler32(data)) as upload:
        upload.write(data)
        upload.commit()


# -- paths -------------------------------------------------------------------------------------------

_parts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(st.lists(_parts, min_size=1, max_size=4), st.sampled_from(["/", "/data", "/data/", "/a b/c"]))
def test_a_path_leads_back_to_its_lfn(parts: list[str], base: str) -> None:
    try:
        lfn = Lfn.parse("/" + "/".join(parts))
    except BadLfn:
        return
    path = path_at(base, lfn)
    assert path.endswith(lfn.rstrip("/"))
    assert (path + "/").startswith(base.rstrip("/") + "/")
    assert lfn_at(base, path) == lfn


@pytest.mark.parametrize("lfn", ["../x", "/../x", "/a/../../x", "/a/..", "relative", ""])
def test_a_name_that_leaves_the_path_is_refused(lfn: str) -> None:
    with pytest.raises(BadRequest):
        path_at("/data", lfn)


@pytest.mark.parametrize("path", ["/", "/dat", "/database/a", "/other/a"])
def test_a_path_outside_has_no_lfn(path: str) -> None:
    with pytest.raises(BadRequest):
        lfn_at("/data", path)


# -- one element -------------------------------------------------------------------------------------


def test_everything_by_lfn(element: StorageElement, tmp_path: Path) -> None:
    a, b, none = Lfn("/lhc/a b.root"), Lfn("/lhc/sub/b.root"), Lfn("/lhc/none")
    store(element, a)
    assert (tmp_path / "store/lhc/a b.root").read_bytes() == DATA
    found = element.stat([a, none, Lfn("/")])
    assert found.ok[a].size_bytes == 3000
    assert found.ok["/"].is_directory
    assert isinstance(found.failed[none], NoSuchFile)
    assert element.checksum([a]).one(a) == adler32(DATA)
    with element.open(a) as reader:
        assert reader.pread(10, 20) == DATA[10:30]
    element.rename(a, b)
    assert [element.lfn_in(child) for child in element.list(Lfn("/lhc"))] == ["/lhc/sub"]
    assert [element.lfn_in(child) for child in element.list(Lfn("/"))] == ["/lhc"]
    assert element.local_path(b) == tmp_path / "store/lhc/sub/b.root"
    assert element.url(b) == f"file://{tmp_path}/store/lhc/sub/b.root"
    assert element.lfn_of(element.url(b)) == b
    assert element.remove([b, none]).ok == {b: None}
    assert (element.space().free_bytes or 0) > 0
    assert element.sweep_partials(0, time.time()) == 0
    element.close()


def test_a_bad_name_fails_alone(element: StorageElement) -> None:
    store(element, Lfn("/a"))
    found = element.stat([Lfn("/a"), Lfn("/../a")])
    assert set(found.ok) == {"/a"}
    assert isinstance(found.failed["/../a"], BadRequest)


def test_a_url_of_others_has_no_lfn(element: StorageElement, tmp_path: Path) -> None:
    for url in (f"file://{tmp_path}/elsewhere/a", "http://a.example.org/a", "file://host/a", "nonsense"):
        with pytest.raises(BadRequest):
            element.lfn_of(url)


def test_what_the_settings_forbid_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("here")
    banned = disk(tmp_path, WriteAccess="Banned", RemoveAccess="Banned")
    element = Elements.from_settings(settings_of({"DISK": banned})).get("DISK")
    for forbidden in (
        lambda: element.put(Lfn("/b"), 1),
        lambda: element.remove([Lfn("/a")]),
        lambda: element.rename(Lfn("/a"), Lfn("/b")),
    ):
        with pytest.raises(NoPlan, match="Access is off"):
            forbidden()
    assert not element.can("write")
    assert element.can("read")
    assert (tmp_path / "a").read_text() == "here"


def test_a_remote_element_has_no_local_paths_and_no_unknown_checksums() -> None:
    element = Elements.from_settings(settings_of({"WEB": web()})).get("WEB")
    assert element.local_path(Lfn("/a")) is None
    assert element.url(Lfn("/a #1")) == "http://se.example.org/data/a%20%231"
    with pytest.raises(Unsupported, match="sha256"):
        element.checksum([Lfn("/a")], "sha256")


@pytest.mark.parametrize(
    ("name", "section", "found"),
    [
        ("SRM", {"Protocol": "srm", "Host": "a"}, "no driver named 'SRM'"),
        ("X", {"PluginName": "GFAL2_SRM2", "Protocol": "http", "Host": "a"}, "no driver named 'GFAL2_SRM2'"),
        ("File", {"Protocol": "http", "Path": "/x"}, "does not speak Protocol 'http'"),
        ("HTTP", {"Protocol": "http"}, "no Host"),
    ],
)
def test_a_section_that_no_driver_speaks(name: str, section: dict[str, str], found: str) -> None:
    with pytest.raises(BadSettings, match="WEB") as caught:
        Elements.from_settings(settings_of({"WEB": {name: section}}))
    assert found in str(caught.value)


def test_sections_are_named_as_in_dirac() -> None:
    sections = (
        ProtocolSettings(Section="AccessProtocol.1", PluginName="File", Path="/x"),
        ProtocolSettings(Section="AccessProtocol.2", Protocol="davs", Host="a"),
        ProtocolSettings(Section="GFAL2_HTTPS", Host="a"),
    )
    element = StorageElement(ElementSettings(Name="SE", Protocols=sections))
    assert [section.section for section in element.plan("read").sections] == [
        "AccessProtocol.1",
        "AccessProtocol.2",
        "GFAL2_HTTPS",
    ]
    assert element.url(Lfn("/a")) == "file:///x/a"


# -- all elements ------------------------------------------------------------------------------------


def test_elements_keep_the_order_of_the_settings(tmp_path: Path) -> None:
    elements = Elements.from_settings(settings_of({"Z": web(), "A": disk(tmp_path), "M": web()}))
    assert [element.name for element in elements] == ["Z", "A", "M"]
    assert len(elements) == 3
    assert "A" in elements
    assert "B" not in elements


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    elements = Elements.from_settings(settings_of({"CERN-USER": web(), "TORINO-DISK": disk(tmp_path)}))
    with pytest.raises(NoSuchElement, match=r"CERN-USER, TORINO-DISK.*Did you mean TORINO-DISK\?"):
        elements.get("TORINO-DSK")
    with pytest.raises(NoSuchElement, match="these: none"):
        Elements.from_settings(settings_of({})).get("A")


def test_staged_files_go_to_the_first_that_can_be_written(tmp_path: Path) -> None:
    off = web(WriteAccess=False)
    elements = Elements.from_settings(settings_of({"OFF": off, "DISK": disk(tmp_path), "WEB": web()}))
    assert elements.default_destination().name == "DISK"
    assert elements.default_destination("WEB").name == "WEB"
    with pytest.raises(NoSuchElement):
        elements.default_destination("NONE")
    with pytest.raises(NoPlan, match="OFF: WriteAccess is off"):
        Elements.from_settings(settings_of({"OFF": off})).default_destination()
    with pytest.raises(NoPlan, match="no storage element"):
        Elements.from_settings(settings_of({})).default_destination()


def test_elements_that_are_elsewhere(tmp_path: Path) -> None:
    settings = settings_of({"DISK": disk(tmp_path)})
    assert Elements.from_settings(settings).get("DISK").can("read")
    assert not Elements.from_settings(settings, elsewhere=["DISK"]).get("DISK").can("read")


@pytest.mark.slow
def test_a_plan_is_followed_by_opening_its_sources(served: Served, tmp_path: Path) -> None:
    (tmp_path / "disk/lhc").mkdir(parents=True)
    (tmp_path / "disk/lhc/a.root").write_bytes(DATA)
    (served.directory / "lhc").mkdir()
    (served.directory / "lhc/a.root").write_bytes(DATA)
    (served.directory / "other.root").write_bytes(b"other")
    section = served.section().model_dump(by_alias=True)
    far = {"HTTP": section}
    elements = Elements.from_settings(
        settings_of({"DISK": disk(tmp_path / "disk"), "FAR": far, "FAR-2": far})
    )
    lfn = Lfn("/lhc/a.root")
    found = elements.plan_read(
        [
            Replica(lfn, "FAR-2", f"{served.url}/data/other.root", ReplicaState.AVAILABLE, None, ""),
            Replica(lfn, "FAR", None, ReplicaState.AVAILABLE, None, "up"),
            Replica(lfn, "DISK", None, ReplicaState.AVAILABLE, None, ""),
            Replica(lfn, "GONE", None, ReplicaState.AVAILABLE, None, ""),
        ]
    )
    assert [(source.se, source.protocol, source.url) for source in found.sources] == [
        ("DISK", "file", f"file://{tmp_path}/disk/lhc/a.root"),
        ("FAR", "http", f"{served.url}/data/lhc/a.root"),
        ("FAR-2", "http", f"{served.url}/data/other.root"),
    ]
    assert [one.se for one in found.rejected] == ["GONE"]
    for source, data in zip(found.sources, (DATA, DATA, b"other"), strict=True):
        with elements.open(source) as reader:
            assert b"".join(bytes(piece) for piece in reader.stream()) == data
    elements.close()


@pytest.mark.slow
def test_a_wrong_token_is_told_with_what_to_do(served: Served) -> None:
    served.token_file.write_text("wrong")
    far = {"HTTP": served.section().model_dump(by_alias=True)}
    element = Elements.from_settings(settings_of({"FAR": far})).get("FAR")
    with pytest.raises(Denied, match="TokenFile"):
        element.open(Lfn("/a"))
    element.close()


# -- a relative Path ---------------------------------------------------------------------------------


def test_a_relative_path_starts_at_the_site_for_a_mounted_storage_only(tmp_path: Path) -> None:
    written = {"StorageElements": {"A": {"File": {"Path": "store"}, "HTTP": {"Host": "h", "Path": "data"}}}}
    settings = Settings.model_validate(written, context={"root": tmp_path})
    paths = [section.path for section in settings.storage_elements["A"].protocols]
    assert paths == [f"{tmp_path}/store", "/data"]
