"""Storage elements, spoken to by LFN."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.raw_answers import LyingServer, answer
from support.served_door import Served
from vse.config.settings import ElementSettings, ProtocolSettings, Settings
from vse.errors import (
    AlreadyExists,
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
from vse.storage.contract import Locality
from vse.storage.element import Elements, StorageElement, lfn_at, path_at
from vse.storage.pairs import Way
from vse.testing.drivers import NAMES, adler32, pattern

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
        ("SRM", {"Protocol": "srn", "Host": "a"}, "no driver named 'SRM'"),
        ("X", {"PluginName": "GFAL2_SRM3", "Protocol": "http", "Host": "a"}, "no driver named 'GFAL2_SRM3'"),
        ("X", {"PluginName": "GFAL2_SRM2", "Protocol": "http", "Host": "a"}, "not speak Protocol 'http'"),
        ("FSSPEC", {"Path": "/x"}, "speaks many protocols"),
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


# -- other names -------------------------------------------------------------------------------------


def test_an_alias_is_the_element_it_names(tmp_path: Path) -> None:
    elements = Elements.from_settings(
        settings_of({"DISK": disk(tmp_path), "OLD": {"Alias": "DISK"}, "OLDER": {"Alias": "OLD"}})
    )
    assert elements.get("OLDER") is elements.get("OLD") is elements.get("DISK")
    assert "OLD" in elements
    assert elements.aliases == {"OLD": "DISK", "OLDER": "DISK"}
    assert [element.name for element in elements] == ["DISK"]
    found = elements.plan_read([Replica(Lfn("/a"), "OLDER", None, ReplicaState.AVAILABLE, None, "")])
    assert [(source.se, source.url) for source in found.sources] == [("OLDER", f"file://{tmp_path}/a")]


def test_aliases_in_a_circle_lead_nowhere_but_to_an_error() -> None:
    elements = Elements([], aliases={"A": "B", "B": "A", "C": "GONE"})
    for name in ("A", "B", "C"):
        assert name not in elements
        with pytest.raises(NoSuchElement, match=name):
            elements.get(name)
    with pytest.raises(NoPlan, match="A: no storage element of this name"):
        elements.plan_read([Replica(Lfn("/a"), "A", None, ReplicaState.AVAILABLE, None, "")])


# -- what the settings say of sites, experiments and plugins -----------------------------------------


def test_an_element_of_another_site_is_elsewhere(tmp_path: Path) -> None:
    sites = {"LCG.Torino.it": {"SE": ["DISK"]}, "LCG.CERN.ch": {"SE": ["OTHER"]}}
    elements = Elements.from_settings(
        settings_of(
            {"DISK": disk(tmp_path), "OTHER": disk(tmp_path)}, site={"name": "LCG.Torino.it"}, Sites=sites
        )
    )
    assert elements.get("DISK").can("read")
    assert not elements.get("OTHER").can("read")


def test_files_are_below_the_vo_path_of_the_sites_experiment() -> None:
    written = {"HTTP": {"Protocol": "http", "Host": "se", "Path": "/data", "VOPath": {"biomed": "/bio"}}}
    for vo, url in (("lhcb", "http://se/data/a"), ("biomed", "http://se/bio/a")):
        element = Elements.from_settings(settings_of({"SE": written}, site={"vo": vo})).get("SE")
        assert element.url(Lfn("/a")) == url
        assert element.lfn_of(url) == "/a"


def test_a_refused_plugin_only_takes_its_section_out(tmp_path: Path) -> None:
    dips = {"DIP": {"Protocol": "dips", "Host": "dirac", "Port": 9148, "Path": "/x"}}
    element = Elements.from_settings(settings_of({"SE": dips | disk(tmp_path)})).get("SE")
    assert element.url(Lfn("/a")) == f"file://{tmp_path}/a"
    assert element.lfn_of(f"file://{tmp_path}/a") == "/a"
    assert "DIRAC's own services" in str(element.plan("read").rejected[0])
    assert "DIRAC's own services" in str(element.abilities()["DIP"])
    alone = Elements.from_settings(settings_of({"SE": dips})).get("SE")
    with pytest.raises(NoPlan, match="DIRAC's own services"):
        alone.stat([Lfn("/a")])


def test_the_url_for_a_catalogue_is_by_registration_protocols(tmp_path: Path) -> None:
    for order, url in ((["http"], "http://se.example.org/data/a"), (["file"], f"file://{tmp_path}/a")):
        se = disk(tmp_path) | web()
        elements = Elements.from_settings(
            settings_of({"SE": se}, DataManagement={"RegistrationProtocols": order})
        )
        assert elements.get("SE").registration_url(Lfn("/a")) == url
    none = Elements.from_settings(
        settings_of({"SE": disk(tmp_path)}, DataManagement={"RegistrationProtocols": ["root"]})
    )
    with pytest.raises(NoPlan, match="RegistrationProtocols"):
        none.get("SE").registration_url(Lfn("/a"))


# -- by GUID -----------------------------------------------------------------------------------------

GUID = bytes.fromhex("a35d75fee02e11e3bde39bcb3904c079")
GUID_PATH = "09/43427/a35d75fe-e02e-11e3-bde3-9bcb3904c079"


def test_files_by_guid(tmp_path: Path) -> None:
    section = {"Protocol": "file", "Path": str(tmp_path), "Placement": "guid"}
    elements = Elements.from_settings(settings_of({"ALICE": {"File": section}}))
    element = elements.get("ALICE")
    lfn, guids = Lfn("/alice/data/a.root"), {"/alice/data/a.root": GUID}
    with element.put(lfn, len(DATA), adler32(DATA), guid=GUID) as upload:
        upload.write(DATA)
        upload.commit()
    assert (tmp_path / GUID_PATH).read_bytes() == DATA
    assert element.stat([lfn], guids).one(lfn).size_bytes == len(DATA)
    assert element.checksum([lfn], guids=guids).one(lfn) == adler32(DATA)
    assert element.local_path(lfn, GUID) == tmp_path / GUID_PATH
    url = element.url(lfn, guid=GUID)
    assert url == f"file://{tmp_path}/{GUID_PATH}"
    assert element.place_at(url) == (None, GUID)
    with pytest.raises(BadRequest, match=r"by GUID, this is a35d75fe.*Ask the catalogue"):
        element.lfn_of(url)
    assert isinstance(element.stat([lfn]).failed[lfn], BadRequest)
    (stored,) = element.list(Lfn("/09/43427"))
    assert element.place_in(stored).guid == GUID

    element.rename(lfn, Lfn("/alice/b.root"))
    element.link(lfn, Lfn("/alice/c.root"))
    element.make_directory(Lfn("/alice/directory"))
    assert (tmp_path / GUID_PATH).exists()
    assert not (tmp_path / "alice").exists()

    replica = Replica(lfn, "ALICE", None, ReplicaState.AVAILABLE, None, "")
    with elements.open(elements.plan_read([replica], GUID).sources[0]) as reader:
        assert reader.pread(0, 10) == DATA[:10]
    with pytest.raises(NoPlan, match="ALICE by File: the storage element keeps files by GUID"):
        elements.plan_read([replica])
    with pytest.raises(Unsupported, match="by GUID"):
        element.mounted()
    assert element.remove([lfn], guids).ok == {lfn: None}
    assert not (tmp_path / GUID_PATH).exists()


# -- directories, links, tape ------------------------------------------------------------------------

MEM = {"AccessProtocols": ["mem"], "WriteProtocols": ["mem"], "ThirdPartyProtocols": ["mem"]}


def memory(*names: str) -> Elements:
    found = {name: {"Memory": {"Host": f"{name}-{uuid.uuid4()}", "Path": "/pool"}} for name in names}
    return Elements.from_settings(settings_of(found, DataManagement=MEM))


def test_directories_and_links(element: StorageElement, tmp_path: Path) -> None:
    element.make_directory(Lfn("/lhc/new"))
    element.make_directory(Lfn("/lhc/new"))
    assert (tmp_path / "store/lhc/new").is_dir()
    store(element, Lfn("/lhc/a"))
    element.link(Lfn("/lhc/a"), Lfn("/lhc/new/b"))
    assert (tmp_path / "store/lhc/new/b").read_bytes() == DATA
    with pytest.raises(AlreadyExists):
        element.link(Lfn("/lhc/a"), Lfn("/lhc/new/b"))


def test_tape_in_bulk() -> None:
    elements = memory("TAPE")
    element, a, none = elements.get("TAPE"), Lfn("/a"), Lfn("/none")
    store(element, a)
    assert set(element.stage([a, none], 60).ok) == {a}
    assert element.poll([a]).ok[a] in (Locality.DISK, Locality.DISK_AND_TAPE)
    assert isinstance(element.poll([none]).failed[none], NoSuchFile)
    assert element.release([a]).ok == {a: None}
    with pytest.raises(Unsupported, match="stage"):
        Elements.from_settings(settings_of({"WEB": web()})).get("WEB").stage([a], 60)


# -- from one element to another ---------------------------------------------------------------------


def test_a_copy_that_the_storages_make_themselves() -> None:
    elements = memory("A", "B")
    store(elements.get("A"), Lfn("/a"))
    copying = elements.plan_copy("A", "B", Lfn("/a"), target=Lfn("/new/b"))
    assert (copying.way, copying.protocol) == (Way.PULL, "mem")
    assert copying.source.url == elements.get("A").url(Lfn("/a"))
    done: list[int] = []
    elements.copy_directly(copying, len(DATA), adler32(DATA), done.append)
    assert done[-1] == len(DATA)
    with elements.get("B").open(Lfn("/new/b")) as reader:
        assert reader.pread(0, len(DATA)) == DATA
    with pytest.raises(AlreadyExists):
        elements.copy_directly(copying, len(DATA))
    pushed = elements.plan_copy("A", "B", Lfn("/a"), target=Lfn("/c"))._replace(way=Way.PUSH)
    elements.copy_directly(pushed, len(DATA))
    assert elements.get("B").stat([Lfn("/c")]).one("/c").size_bytes == len(DATA)


def test_a_copy_that_is_streamed_and_one_that_is_not_possible(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    guid = {"File": {"Protocol": "file", "Path": str(tmp_path / "two"), "Placement": "guid"}}
    off = disk(tmp_path / "one", WriteAccess=False)
    elements = Elements.from_settings(settings_of({"ONE": disk(tmp_path / "one"), "GUID": guid, "OFF": off}))
    store(elements.get("ONE"), Lfn("/a"))
    copying = elements.plan_copy("ONE", "GUID", Lfn("/a"), guid=GUID)
    assert copying.way is Way.STREAMED
    with (
        elements.open(copying.source) as reader,
        elements.put(copying.target, reader.size_bytes, adler32(DATA)) as upload,
    ):
        for piece in reader.stream():
            upload.write(piece)
        upload.commit()
    assert (tmp_path / "two" / GUID_PATH).read_bytes() == DATA
    with pytest.raises(BadRequest, match="stream"):
        elements.copy_directly(copying, len(DATA))
    with pytest.raises(BadRequest, match="by GUID"):
        elements.plan_copy("ONE", "GUID", Lfn("/a"))
    with pytest.raises(NoPlan, match="OFF: WriteAccess is off"):
        elements.plan_copy("GUID", "OFF", Lfn("/a"), guid=GUID)
    with pytest.raises(NoPlan, match="same storage element"):
        elements.plan_copy("ONE", "ONE", Lfn("/a"))
    with pytest.raises(NoSuchElement):
        elements.plan_copy("ONE", "NONE", Lfn("/a"))


def test_urls_for_fts_need_no_driver() -> None:
    def tape(host: str) -> dict[str, object]:
        return {"GFAL2_SRM2": {"Host": host, "Port": 8443, "Path": "/p", "WSUrl": "/srm/managerv2?SFN="}}

    elements = Elements.from_settings(settings_of({"A": tape("a"), "B": tape("b")}))
    assert elements.plan_urls("A", "B", Lfn("/x y"))[:3] == (
        "srm://a:8443/srm/managerv2?SFN=/p/x y",
        "srm://b:8443/srm/managerv2?SFN=/p/x y",
        "root",
    )


def test_with_use_catalog_url_the_servers_of_today_are_asked(tmp_path: Path) -> None:
    old = Replica(Lfn("/a"), "SE", "http://old:1/data/x%20y", ReplicaState.AVAILABLE, None, "")
    uses = Elements.from_settings(settings_of({"SE": web(UseCatalogURL=True)}))
    assert uses.plan_read([old]).sources[0].url == "http://se.example.org/data/x%20y"
    makes = Elements.from_settings(settings_of({"SE": web()}))
    with pytest.raises(NoPlan, match="SE by HTTP: the copy's URL 'http://old:1/data/x%20y'"):
        makes.plan_read([old])


@pytest.mark.parametrize("name", NAMES)
def test_a_root_url_is_written_as_the_world_does_and_leads_back(name: str) -> None:
    eos = {"GFAL2_XROOT": {"Host": "eos.example.org", "Port": 1094, "Path": "/eos"}}
    elements = Elements.from_settings(settings_of({"EOS": eos}))
    element, lfn = elements.get("EOS"), Lfn.parse(f"/lhc/{name}")
    url = element.registration_url(lfn)
    assert url == element.url(lfn) == f"root://eos.example.org:1094//eos{lfn}"
    assert element.lfn_of(url) == lfn
    usual = elements.plan_read([Replica(lfn, "EOS", url, ReplicaState.AVAILABLE, None, "")])
    made = elements.plan_read([Replica(lfn, "EOS", None, ReplicaState.AVAILABLE, None, "")])
    assert usual == made
    odd = Replica(Lfn("/other"), "EOS", url, ReplicaState.AVAILABLE, None, "")
    assert elements.plan_read([odd]).sources[0].url == made.sources[0].url


def test_a_transient_error_of_a_server_is_tried_again_and_a_final_one_is_not() -> None:
    answers = iter([answer("503 Busy"), answer("200 OK", length=5), answer("404 Not Found")])
    with closing(LyingServer({"HEAD": lambda _: next(answers)})) as server:
        far = {"HTTP": {"Host": "127.0.0.1", "Port": server.port}}
        element = Elements.from_settings(settings_of({"FAR": far})).get("FAR")
        assert element.stat([Lfn("/a")]).one("/a").size_bytes == 5
        assert len(server.heads) == 2
        assert isinstance(element.stat([Lfn("/a")]).failed["/a"], NoSuchFile)
        assert len(server.heads) == 3
        element.close()
