"""Options of storage elements that show in what the commands do."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading

import pytest

from support.command_line import Command, InProcess
from vse.config.settings import Settings
from vse.errors import Stalled, Unsupported
from vse.model import Lfn
from vse.storage.element import Elements

DATA = b"event data\n" * 20_000


def settings_of(elements: dict[str, object], **tables: object) -> Settings:
    return Settings.model_validate({"StorageElements": elements} | tables)


def srm(host: str, **keys: object) -> dict[str, object]:
    return {
        "GFAL2_SRM2": {"Host": host, "Path": "/p", "WSUrl": "/srm?SFN=", "SpaceToken": f"{host}-T"}
    } | keys


# -- for services that copy by themselves ------------------------------------------------------------


def test_a_copying_service_is_told_timeouts_and_space_tokens() -> None:
    """BringOnlineTimeout is for the tape that is read, ArchiveTimeout for the one that is written."""
    tape = {"SEType": "T1D0", "BringOnlineTimeout": 3600, "ArchiveTimeout": 7200}
    elements = Elements.from_settings(
        settings_of({"A": srm("a", **tape), "B": srm("b", **tape), "D": srm("d")})
    )
    pair = elements.plan_urls("A", "B", Lfn("/x"))
    assert (pair.bring_online_timeout_s, pair.archive_timeout_s) == (3600, 7200)
    assert (pair.source_space_token, pair.target_space_token) == ("a-T", "b-T")
    assert elements.plan_urls("A", "D", Lfn("/x"))[-2:] == (3600, None)
    assert elements.plan_urls("D", "B", Lfn("/x"))[-2:] == (None, 7200)


def test_a_tape_system_may_take_as_long_as_bring_online_timeout_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SRM server can be started here: what gfal2's process is asked is looked at."""
    asked: list[dict[str, object]] = []

    class Recorder:
        def __init__(self, _: float) -> None: ...

        def ask(self, wanted: str, call: str, **told: object) -> object:
            asked.append({"wanted": wanted, "call": call} | told)
            return [[None], "token"]

    monkeypatch.setattr("vse.storage.drivers.gfal.GfalCalls", Recorder)
    tape = srm("t", SEType="T1D1", BringOnlineTimeout=77)
    site = settings_of({"TAPE": tape}, DataManagement={"StageProtocols": "srm", "WriteProtocols": "srm"})
    element = Elements.from_settings(site).get("TAPE")
    assert element.stage([Lfn("/x")], 60.0).ok == {"/x": "token"}
    assert (asked[0]["call"], asked[0]["timeout_s"], asked[0]["lifetime_s"]) == ("bring_online", 77, 60)
    assert asked[0]["urls"] == ["srm://t/srm?SFN=/p/x"]
    with pytest.raises(Unsupported, match="no driver of GFAL2_SRM2 can do 'write'"):
        element.put(Lfn("/y"), 3)


# -- how much a server is asked ----------------------------------------------------------------------


def test_calls_to_a_host_are_limited_by_the_settings() -> None:
    """A server that never answers: the second call waits for its slot, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        section = {"HTTP": {"Protocol": "http", "Host": "127.0.0.1", "Port": port, "Path": "/"}}
        elements = Elements.from_settings(
            settings_of(
                {"ONE": section, "SAME-HOST": section},
                limits={"hosts": {f"127.0.0.1:{port}": 1}, "wait_s": 0.2},
                stager={"no_progress_s": 3.0},
            )
        )
        first = threading.Thread(target=lambda: elements.get("ONE").stat([Lfn("/a")]))
        first.start()
        silent.accept()[0].settimeout(5)
        with pytest.raises(Stalled, match="the 1 calls allowed at once"):
            elements.get("SAME-HOST").stat([Lfn("/a")])
    first.join()
    elements.close()


# -- on the command line -----------------------------------------------------------------------------


@pytest.fixture
def site(vse: Command) -> Command:
    text = (vse.directory / "vse.toml").read_text()
    for name, options in (
        ("SECOND", 'ChecksumType = "md5"'),
        ("FROZEN", 'WriteAccess = "Banned"\nArchiveTimeout = 5'),
    ):
        (vse.directory / name.lower()).mkdir()
        text += f"\n[StorageElements.{name}]\n{options}\n[StorageElements.{name}.File]\n"
        text += f'Protocol = "file"\nPath = "{name.lower()}"\n'
    text += '\n[StorageElementGroups]\nOURS = ["FROZEN", "SECOND"]\n'
    (vse.directory / "vse.toml").write_text(text)
    (vse.directory / "mine.dat").write_bytes(DATA)
    return InProcess(vse.directory)


@pytest.mark.slow
def test_a_group_stands_for_any_storage_in_it(site: Command) -> None:
    """Written to is the first that can be, read is any copy."""
    assert site("cp", "mine.dat", "/lhc/a.dat@OURS").code == 0
    assert (site.directory / "second/lhc/a.dat").read_bytes() == DATA
    assert site("cp", "/lhc/a.dat@OURS", "out.dat").code == 0
    assert (site.directory / "out.dat").read_bytes() == DATA
    assert site("register", "mine.dat", "--to", "/lhc/b", "--se", "OURS").code == 0
    assert (site.directory / "second/lhc/b/mine.dat").exists()
    unknown = site("cp", "mine.dat", "/lhc/c.dat@OUR")
    assert unknown.code != 0
    assert "Did you mean OURS?" in unknown.err


@pytest.mark.slow
def test_what_a_site_associates_with_a_group_is_written_to(site: Command) -> None:
    with (site.directory / "vse.toml").open("a") as file:
        file.write('[Sites.test.AssociatedSEs]\nOURS = ["LOCAL-DISK"]\n')
    assert site("cp", "mine.dat", "/lhc/a.dat@OURS").code == 0
    assert (site.directory / "storage/lhc/a.dat").read_bytes() == DATA


@pytest.mark.slow
def test_checksum_type_is_what_the_storage_is_asked_for(site: Command) -> None:
    assert site("cp", "mine.dat", "/lhc/a.dat@SECOND").code == 0
    found = site("checksum", "/lhc/a.dat", "--json")
    assert found.code == 0, found.err
    (copy,) = json.loads(found.out)["copies"]
    # a mounted storage tells adler32 alone: the option is honoured by not taking that for its answer
    assert copy["storage"] is None
    assert copy["computed"].startswith("adler32:")
    with (site.directory / "second/lhc/a.dat").open("r+b") as file:
        file.write(b"!")
    assert site("checksum", "/lhc/a.dat").code == 8


@pytest.mark.slow
def test_the_catalogues_url_is_by_registration_protocols(site: Command) -> None:
    with (site.directory / "vse.toml").open("a") as file:
        file.write('[StorageElements.SECOND.HTTP]\nProtocol = "http"\nHost = "se.example.org"\nPath = "/d"\n')
        file.write('[DataManagement]\nRegistrationProtocols = "http, file"\n')
    urls = json.loads(site("se", "url", "/a b", "SECOND", "--json").out)
    assert urls["catalogue"] == "http://se.example.org/d/a%20b"
    assert urls["read"] == f"file://{site.directory}/second/a%20b"
    frozen = json.loads(site("se", "url", "/a", "FROZEN", "--json").out)
    assert "WriteAccess is off" in frozen["write"]


@pytest.mark.slow
def test_doctor_tells_what_has_no_effect(site: Command) -> None:
    found = site("doctor")
    assert found.code == 0, found.err
    assert "ArchiveTimeout has no effect: FROZEN is no tape, its SEType is T0D1" in found.out
    assert f"{site.directory}/vse.toml:" in found.out


@pytest.mark.slow
def test_serve_erases_what_has_outlived_its_volume(site: Command) -> None:
    (site.directory / "disk").mkdir()
    with (site.directory / "vse.toml").open("a") as file:
        file.write('[upkeep]\nexpire_every_s = 0.05\n[StorageElements.MANY.VOLUMES]\nPath = "/"\n')
        file.write("[[StorageElements.MANY.VOLUMES.Volumes]]\n")
        file.write('Path = "disk"\nSize_bytes = 900_000\nLifetime_s = 0.001\n')
    assert site("cp", "mine.dat", "/lhc/a.dat@MANY").code == 0
    kept = site.directory / "disk/lhc/a.dat"
    assert kept.exists()
    service = site.start("serve", "--no-door")
    try:
        assert service.stderr is not None
        told = b""
        while b"expired" not in told:
            line = service.stderr.readline()
            assert line, told
            told += line
        assert b"MANY: 1 expired file erased" in told
        assert not kept.exists()
    finally:
        os.kill(service.pid, signal.SIGINT)
        service.communicate(timeout=30)
    assert not os.path.lexists(site.directory / "vse/lhc/a.dat")
    assert json.loads(site("why", "/lhc/a.dat", "--json").out)["copies"] == []


# -- names that leave an element, and what else is wrong ---------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cp", "mine.dat", "/lhc/../../a@SECOND"), "'..'"),
        (("cp", "http://127.0.0.1:1/data/../etc/passwd", "out"), "'..' in a URL"),
        (("cp", "root://127.0.0.1:1//x/a", "out"), "127.0.0.1:1"),
        (("cp", "gopher://host/a", "out"), "no driver speaks it"),
        (("cp", "mine.dat", "/lhc/a@FROZEN"), "WriteAccess is off"),
        (("cp", "mine.dat", "/lhc/a@NOWHERE"), "NOWHERE"),
        (("cp", "mine.dat", "/lhc/a@DOWN"), "http://127.0.0.1:1/"),
        (("cp", "mine.dat", "/link/a@SECOND"), "/second/link"),
    ],
)
def test_what_is_wrong_names_element_url_and_reason(site: Command, words: tuple[str, ...], said: str) -> None:
    outside = site.directory.parent / "outside"
    outside.mkdir()
    (site.directory / "second/link").symlink_to(outside)
    with (site.directory / "vse.toml").open("a") as file:
        file.write('[StorageElements.DOWN]\nAccessProtocols = "http"\nWriteProtocols = "http"\n')
        file.write(
            '[StorageElements.DOWN.HTTP]\nProtocol = "http"\nHost = "127.0.0.1"\nPort = 1\nPath = "/data"\n'
        )
    done = site(*words)
    assert done.code not in (0, 1)
    assert said in done.err
    assert "Traceback" not in done.err
    assert list(outside.iterdir()) == []
    assert not (site.directory / "out").exists()
    assert [
        path for path in (site.directory / "second").rglob("*") if path.is_file() and path.name == "a"
    ] == []
