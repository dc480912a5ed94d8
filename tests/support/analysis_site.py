"""The real files, and the two calls every test of the engine makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
from vse.analysis.result import AnalysisResult
from vse.analysis.script import Script

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ZMUMU = sorted(DATA.glob("uproot-Zmumu*.root"))
NANO = {"nano_dy.root": 40, "nanoAOD_2015_CMS_Open_Data_ttbar.root": 200}
DIMUON = Path(__file__).resolve().parents[2] / "src" / "vse" / "demo" / "dimuon.py"

needs_data = pytest.mark.skipif(not ZMUMU, reason="the real ROOT files are not there")


def input_file(path: Path, entries: int | None = None, tree: str = "") -> InputFile:
    return InputFile(f"/lhc/{path.name}", str(path), tree, entries, path.stat().st_size, "here")


def run(script: Script, files: list[InputFile], client: Any, **options: Any) -> AnalysisResult:
    return analyse(script, Feed(files, closed=True), client, AnalysisOptions(**options))
