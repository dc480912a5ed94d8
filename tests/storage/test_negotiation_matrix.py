"""What a copy between any two elements would use, as a value and on the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vse.cli import se_matrix
from vse.cli.context import Context
from vse.config.settings import DataManagement, ElementSettings
from vse.storage.contract import Capabilities
from vse.storage.matrix import protocol_matrix
from vse.storage.pairs import Side, Way

PULLS = Capabilities(write=True, pull=frozenset({"https", "davs"}))


def element(name: str, **keys: object) -> ElementSettings:
    return ElementSettings.model_validate({"Name": name} | keys)


def test_every_pair_once_with_the_reasons_of_the_empty_cells() -> None:
    web = element("WEB", GFAL2_HTTPS={"Host": "web", "Path": "/d"})
    disk = element("DISK", File={"Path": "/store"})
    old = element("OLD", GFAL2_HTTPS={"Host": "old", "Path": "/d"}, WriteAccess="Banned")
    can = {"WEB": {"GFAL2_HTTPS": PULLS}, "OLD": {"GFAL2_HTTPS": PULLS}, "DISK": {"File": PULLS}}
    cells = protocol_matrix([Side(web), Side(disk), Side(old)], DataManagement(), can)
    assert [(cell.source, cell.destination, cell.way) for cell in cells] == [
        ("WEB", "DISK", Way.STREAMED),
        ("WEB", "OLD", None),
        ("DISK", "WEB", Way.STREAMED),
        ("DISK", "OLD", None),
        ("OLD", "WEB", Way.PULL),
        ("OLD", "DISK", Way.STREAMED),
    ]
    pulled = cells[4]
    assert (pulled.protocol, pulled.source_section, pulled.source_scheme) == ("davs", "GFAL2_HTTPS", "https")
    assert "OLD: WriteAccess is off in the settings" in cells[1].reason


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "vse.toml").write_text(
        """
        [StorageElements.DISK.File]
        Path = "storage"

        [StorageElements.WEB.HTTP]
        Protocol = "http"
        Host = "se.example.org"
        Path = "/data"

        [StorageElements.FULL]
        WriteAccess = "Banned"

        [StorageElements.FULL.HTTP]
        Protocol = "http"
        Host = "full.example.org"
        """
    )
    return tmp_path


def printed(site: Path, *flags: str) -> tuple[str, str]:
    app = typer.Typer()
    se_matrix.add_to(app)
    result = CliRunner().invoke(app, list(flags), obj=Context(site), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout, result.stderr


def test_the_table_names_every_pair_and_the_reasons_stand_below(site: Path) -> None:
    table, reasons = printed(site)
    rows = [line.split("\t") for line in table.splitlines()]
    assert len(rows) == 6
    assert ["DISK", "WEB", "streamed", "file", "file by File", "http by HTTP"] in rows
    assert ["WEB", "FULL", "none", "-", "-", "-"] in rows
    assert "No way from WEB to FULL" in reasons
    assert "WriteAccess is off" in reasons


def test_for_programs(site: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(site, "--csv")[0])))
    cells = json.loads(printed(site, "--json")[0])
    assert len(rows) == len(cells) == 6
    for row, cell in zip(rows, cells, strict=True):
        assert row == {key: value or "" for key, value in cell.items()}
    none = next(row for row in rows if row["destination"] == "FULL")
    assert none["way"] == ""
    assert "FULL: WriteAccess is off in the settings" in none["reason"]
