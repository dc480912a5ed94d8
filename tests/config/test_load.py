from pathlib import Path

import pytest

from vse.config.load import find_site, flatten, load, parse_flags
from vse.config.toml_lines import lines_of
from vse.errors import BadSettings, NoSuchSite

SITE = """\
[site]
name = "torino"

[StorageElements.TORINO-DISK]
BackendType = "local"
WriteAccess = "Banned"

[StorageElements.TORINO-DISK.File]
Protocol = "file"
Path = "/srv/se"
Access = "local"

[upstreams.alien]
url = "http://127.0.0.1:1"

[stager]
slots = 4
"""


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "vse.toml"
    path.write_text(SITE)
    return path


def rewrite(path: Path, old: str, new: str) -> Path:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return path


def test_what_is_written_is_read(site):
    loaded = load(site)
    element = loaded.settings.storage_elements["TORINO-DISK"]
    assert (element.name, element.write_access, element.read_access) == ("TORINO-DISK", False, True)
    assert [(p.section, p.protocol, p.path, p.access) for p in element.protocols] == [
        ("File", "file", "/srv/se", "local")
    ]
    assert loaded.settings.upstreams["alien"].name == "alien"


def test_flag_over_environment_over_file_over_default(site):
    environment = {"VSE_STAGER__SLOTS": "5", "VSE_STAGER__MAX_FAILURES": "0", "PATH": "/bin"}
    loaded = load(site, environment, {"stager.slots": "6"})
    assert loaded.settings.stager.slots == 6
    assert loaded.settings.stager.max_failures == 0
    assert loaded.settings.stager.backoff_s == 2.0
    origins = {key: origin for key, _, origin in flatten(loaded)}
    assert origins["stager.slots"] == "--set stager.slots"
    assert origins["stager.max_failures"] == "VSE_STAGER__MAX_FAILURES"
    assert origins["stager.backoff_s"] == "default"
    assert origins["site.name"] == f"{site}:2"
    assert origins["StorageElements.TORINO-DISK.File.Path"] == f"{site}:10"


def test_paths_start_at_the_site(site, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert load(site).settings.linktree.path == tmp_path / "vse"
    assert load(site).settings.doors.http.token_file == tmp_path / "var/door.token"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("slots = 4", "slotz = 4", 17, "unknown key 'slotz' in [stager]. Did you mean 'slots'?"),
        ("slots = 4", "slots = 0", 17, "stager.slots: Input should be greater than or equal to 1, not 0"),
        ("slots = 4", 'slots = "many"', 17, "not 'many'"),
        ("[stager]", "[stagger]", 16, "unknown key 'stagger'. Did you mean 'stager'?"),
        ('Path = "/srv/se"', "Pth = 1", 10, "unknown key 'Pth' in [StorageElements.TORINO-DISK.File]"),
        ("BackendType", "Backend", 5, "Did you mean 'BackendType'?"),
        ('url = "http://127.0.0.1:1"', "", 13, "upstreams.alien.url is missing"),
        ("[stager]", "[stager", 16, "not valid TOML"),
    ],
)
def test_errors_name_file_line_and_nearest_key(site, old, new, line, words):
    with pytest.raises(BadSettings) as caught:
        load(rewrite(site, old, new))
    message = str(caught.value)
    assert words in message
    assert str(site) in message
    assert f"{site}:{line}" in message or f"line {line}" in message


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"VSE_STAGR__SLOTS": "1"}, "VSE_STAGR__SLOTS: there is no setting 'STAGR'. Did you mean 'stager'?"),
        ({"VSE_STAGER__SLOTS": "x"}, "VSE_STAGER__SLOTS"),
    ],
)
def test_the_environment_is_checked_like_the_file(site, environment, words):
    with pytest.raises(BadSettings) as caught:
        load(site, environment)
    assert words in str(caught.value)


def test_secrets_are_never_shown(site):
    rewrite(site, "[stager]", '[database]\npassword = "geheim"\n\n[stager]')
    loaded = load(site)
    assert loaded.settings.database.password.get_secret_value() == "geheim"
    assert "geheim" not in str(flatten(loaded)) + repr(loaded) + str(loaded.settings)
    assert ("database.password", "***", f"{site}:17") in flatten(loaded)


def test_a_flag_must_be_key_value():
    assert parse_flags(["a.b=c=d"]) == {"a.b": "c=d"}
    with pytest.raises(BadSettings, match="KEY=VALUE"):
        parse_flags(["stager.slots"])


def test_the_nearest_site_is_found(site, tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_site(None, {}, below) == site
    assert find_site(tmp_path, {}, Path("/")) == site
    assert find_site(None, {"VSE_SITE": str(site)}, Path("/")) == site
    assert find_site(below / "../..", {}, Path("/")) == site
    with pytest.raises(NoSuchSite, match="vse init"):
        find_site(tmp_path / "a", {}, below)
    with pytest.raises(NoSuchSite, match="vse demo"):
        find_site(None, {}, Path("/"))


def test_lines_of_every_kind_of_key():
    text = '[a]\nb = 1\n"c d" = """\nx = 1\n"""\ne.f = [\n 1,\n]\n[g."h.i"]\n[[list]]\nz = 1\n'
    assert lines_of(text) == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c d"): 3,
        ("a", "e", "f"): 6,
        ("g", "h.i"): 9,
        ("list",): 10,
        ("list", "z"): 11,
    }
