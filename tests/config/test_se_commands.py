"""``vse se list`` and ``vse se show``, as a user has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import Command

pytestmark = pytest.mark.slow

DIRAC = """\
StorageElementBases
{
  EOS
  {
    BackendType = Eos
    AccessProtocol.1
    {
      PluginName = GFAL2_SRM2
      Protocol = srm
      Host = a.cern.ch
      Port = 8443
    }
  }
}
StorageElements
{
  USER
  {
    BaseSE = EOS
    WriteAccess = Banned
    TotalCapacityTB = 5
    AccessProtocol.1
    {
      Port = 8444
    }
    GFAL2_XROOT
    {
      Protocol = root
      Host = b.cern.ch
    }
  }
  OLD
  {
    Alias = USER
  }
}
StorageElementGroups
{
  ALL = USER
}
"""
TOML = """\
[dirac]
cfg = "dirac.cfg"
[StorageElements.LOCAL.File]
Protocol = "file"
Path = "storage"
"""


@pytest.fixture
def vse(tmp_path: Path) -> Command:
    (tmp_path / "dirac.cfg").write_text(DIRAC)
    (tmp_path / "vse.toml").write_text(TOML)
    return Command(tmp_path)


def test_list(vse):
    answer = vse("se", "list")
    assert (answer.code, answer.lines) == (
        0,
        [
            "LOCAL\tT0D1 (disk)\tread, write, check, remove\tfile\t-\t-",
            "USER\tT0D1 (disk)\tread, check, remove\tsrm, root\tOLD\tALL",
        ],
    )
    (_, user) = [json.loads(line) for line in vse("se", "list", "--json").lines]
    assert (user["name"], user["aliases"], user["groups"]) == ("USER", ["OLD"], ["ALL"])


def test_show_says_where_each_value_comes_from(vse):
    cfg = vse.directory / "dirac.cfg"
    answer = vse("se", "show", "OLD")
    assert answer.code == 0
    rows = {row.split("\t")[0]: row.split("\t")[1:] for row in answer.lines}
    assert rows["BackendType"] == ['"Eos"', f"{cfg}:5, inherited from EOS"]
    assert rows["AccessProtocol.1/Host"] == ['"a.cern.ch"', f"{cfg}:10, inherited from EOS"]
    assert rows["AccessProtocol.1/Port"] == ["8444", f"{cfg}:24"]
    assert rows["WriteAccess"] == ["false", f"{cfg}:20"]
    assert rows["AccessProtocols"][1] == "[DataManagement], default"
    assert "ReadAccess" not in rows
    assert "OLD is another name of USER" in answer.err
    assert f"{cfg}:21: TotalCapacityTB is DIRAC's and not used" in answer.err
    every = {row.split("\t")[0]: row.split("\t")[1:] for row in vse("se", "show", "USER", "--all").lines}
    assert every["ReadAccess"] == ["true", "default"]


def test_show_as_json(vse):
    told = json.loads(vse("se", "show", "USER", "--json").out)
    assert (told["name"], told["asked"], told["allows"]) == ("USER", "USER", ["read", "check", "remove"])
    assert {
        "option": "AccessProtocol.1/Port",
        "value": "8444",
        "origin": f"{vse.directory}/dirac.cfg:24",
    } in told["options"]
    assert [one["text"][:15] for one in told["remarks"]] == ["TotalCapacityTB"]


def test_a_name_that_is_none(vse):
    answer = vse("se", "show", "USRE")
    assert answer.code != 0
    assert "Did you mean USER?" in answer.err


def test_a_name_of_another_kind(vse):
    group, base = vse("se", "show", "ALL"), vse("se", "show", "EOS")
    assert (group.code, base.code) == (3, 3)
    assert "'ALL': it is a group, of USER. Name one of its elements" in group.err
    assert "'EOS': it is a base: elements are made from it, it is none itself" in base.err


def test_no_secret_is_shown(vse):
    plain = {"database.url": "postgresql+psycopg://anna:geheim@db/vse", "database.password": "geheim"}
    flags = [word for key, value in plain.items() for word in ("--set", f"{key}={value}")]
    for words in (["config", "show"], ["config", "show", "--json"], ["config", "show", "--origin"]):
        answer = vse(*flags, *words)
        assert (answer.code, "geheim" in answer.out + answer.err) == (0, False)
        assert "postgresql+psycopg://anna:***@db/vse" in answer.out
