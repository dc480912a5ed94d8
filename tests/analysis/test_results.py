"""Fits, files, pictures and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import uproot

from vse.analysis import output, report
from vse.analysis.fit import fit_peak
from vse.analysis.ledger import FailedRange, Failure
from vse.analysis.plots import with_error
from vse.analysis.report_effort import Effort, efficiency, ideal_s, origins
from vse.analysis.resonances import find_excesses
from vse.analysis.result import AnalysisResult, FileResult
from vse.analysis.script import Script, ScriptSource, load_source

LABEL = r"$m_{\mu\mu}$ [GeV]"


def z_histogram(signal: int = 5000, background: int = 2000, sigma: float = 1.2) -> Any:
    dice = np.random.default_rng(4)
    masses = dice.standard_cauchy(signal * 2) * 2.4955 / 2 + 91.188
    masses = masses[abs(masses - 91.188) < 30][:signal] + dice.normal(0, sigma, signal)
    histogram = hist.Hist.new.Reg(120, 60, 120, name="mass", label=LABEL).Double()
    return histogram.fill(np.concatenate([masses, 60 + dice.exponential(40, background)]))


def test_a_z_is_fitted_with_honest_errors() -> None:
    fit = fit_peak(z_histogram())
    assert fit is not None
    assert fit.resonance.name == "Z"
    assert abs(fit.mass - 91.188) < 4 * fit.mass_error
    assert 0.01 < fit.mass_error < 0.1
    assert abs(fit.width - 1.2) < 5 * fit.width_error
    assert 4000 < fit.signal < 5200
    assert 60 < fit.signal_error < 200
    assert fit.chi2_per_ndf < 1.6
    width = 0.5
    centres = np.arange(fit.window[0] + width / 2, fit.window[1], width)
    assert abs(fit.density(centres).sum() * width - fit.entries) < 0.01 * fit.entries


@pytest.mark.parametrize("weight", [0.1, 25.0])
def test_weights_scale_the_signal_and_not_the_precision(weight: float) -> None:
    plain = z_histogram()
    weighted = hist.Hist(plain.axes[0], storage=hist.storage.Weight())
    weighted.view().value = plain.values() * weight
    weighted.view().variance = plain.values() * weight**2
    one, other = fit_peak(plain), fit_peak(weighted)
    assert one is not None
    assert other is not None
    assert other.mass_error == pytest.approx(one.mass_error, rel=0.05)
    assert other.signal == pytest.approx(one.signal * weight, rel=0.02)


def test_no_peak_is_no_fit() -> None:
    dice = np.random.default_rng(1)
    flat = hist.Hist.new.Reg(120, 60, 120, name="mass", label=LABEL).Double()
    assert fit_peak(flat) is None
    assert fit_peak(flat.fill(dice.uniform(60, 120, 20_000))) is None
    falling = hist.Hist.new.Log(1200, 0.3, 200, name="mass", label=LABEL).Double()
    falling.fill(0.3 * (1 - dice.random(300_000)) ** -1.2)
    assert find_excesses(falling) == []
    assert fit_peak(falling) is None


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(91.19234, 0.01235, "91.192 ± 0.012"), (1234.5, 12.3, "1234 ± 12"), (3.5, float("nan"), "3.5")],
)
def test_a_value_has_two_digits_of_its_error(value: float, error: float, text: str) -> None:
    assert with_error(value, error, "±") == text


@pytest.fixture
def script() -> Script:
    return load_source(
        ScriptSource("/home/me/z.py", '"""Z peak: a test."""\ndef process(events):\n    return 1\n')
    )


@pytest.fixture
def result() -> AnalysisResult:
    spectrum = hist.Hist.new.Log(300, 0.3, 200, name="mass", label=LABEL).Double()
    spectrum.fill(np.random.default_rng(2).normal(91.2, 2, 3000))
    pt_eta = hist.Hist.new.Reg(5, 0, 5, name="pt").Reg(4, -2, 2, name="eta").Weight()
    pt_eta.fill([1, 2], [0, 1], weight=[2.0, 3.0])
    content = {
        "z": z_histogram(),
        "spectrum": spectrum,
        "maps": {"pt/eta": pt_eta},
        "entries": 7000,
        "fraction": np.float64(0.5),
        "array": np.arange(3),
        "runs": {3, 1},
        "odd": complex(1, 2),
        "empty": hist.Hist.new.Reg(3, 0, 1, name="x", label="x").Double(),
    }
    lfn = "/lhc/<script>alert(1)</script>.root"
    return AnalysisResult(
        script="/home/me/z.py",
        dataset="Find;BasePath=/lhc;FileName=*.root",
        output=content,
        entries_processed=6998,
        files=[FileResult(lfn, "/d/a.root", "local", 2_400_000, 7000, 6998, 2, 1000)],
        failed=[FailedRange(lfn, 5, 7, Failure("z.py:3: ValueError: <b>bad</b>", "Traceback"))],
        broken=[("/lhc/broken.root", "it is truncated")],
        missing=[("/lhc/missing.root", "the source answered 500")],
        read_bytes=1000,
        wall_s=2.0,
        workers=2,
        packets=7,
        workers_lost=1,
    )


@pytest.mark.slow
def test_what_is_saved_can_be_read_back(result: AnalysisResult, script: Script, tmp_path: Path) -> None:
    written = output.save(result, tmp_path / "out", script)
    again = output.save(result, tmp_path / "out", script)
    assert written == again
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    with uproot.open(tmp_path / "out" / "histograms.root") as file:
        assert file["z"].classname == "TH1D"
        np.testing.assert_array_equal(file["z"].values(), result.output["z"].values())
        np.testing.assert_allclose(file["spectrum"].axis().edges(), result.output["spectrum"].axes[0].edges)
        assert file["maps/pt_eta"].values().sum() == 5
    numbers = json.loads((tmp_path / "out" / "result.json").read_text())
    assert numbers["entries_processed"] == 6998
    assert numbers["output"]["fraction"] == 0.5
    assert numbers["output"]["runs"] == [1, 3]
    assert numbers["output"]["array"] == "in arrays.npz"
    assert numbers["output"]["odd"] == "in others.pickle"
    assert numbers["fits"]["z"]["resonance"] == "Z"
    assert numbers["failed"][0] == {
        "lfn": "/lhc/<script>alert(1)</script>.root",
        "start": 5,
        "stop": 7,
        "error": "z.py:3: ValueError: <b>bad</b>",
        "traceback": "Traceback",
    }
    assert np.load(tmp_path / "out" / "arrays.npz")["array"].tolist() == [0, 1, 2]
    for name in ("z", "spectrum", "maps_pt_eta", "empty"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / "out" / f"{name}.svg").read_bytes()


class Page(HTMLParser):
    """Notes what a page refers to, whether its tags are balanced, and its text."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.slow
def test_the_report_stands_on_its_own(result: AnalysisResult, script: Script, tmp_path: Path) -> None:
    plots = [path for path in output.save(result, tmp_path, script) if path.suffix in (".png", ".svg")]
    content = report.ReportContent(
        title="Dimuon & more",
        site="torino",
        result=result,
        command="vse analyse z.py",
        plots=plots,
        fits=output.find_fits(result.output),
        tables=[
            report.Table("Cold and warm", ["", "cold", "warm"], [["here", "12.0 s", "1.1 s"]], "caption")
        ],
        timings={"staging": 83.0},
        notes=["100 ms an upstream query"],
    )
    path = report.write_report(tmp_path / "new" / "report.html", content)
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.references) == len(plots)
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert "script" not in page.tags
    assert "link" not in page.tags
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    for wanted in (
        "Dimuon & more",
        "/lhc/<script>alert(1)</script>.root",
        "z.py:3: ValueError: <b>bad</b>",
        "it is truncated",
        "the source answered 500",
        "6,998 of 7,000",
        "2.4 MB",
        "1:23",
        "Cold and warm",
        "100 ms an upstream query",
        "uproot",
        "Incomplete.",
    ):
        assert wanted in page.text, wanted


def two_unequal_workers() -> Effort:
    """A fast worker from the start, and one of a third of its speed from the second second on."""
    effort = Effort()
    effort.joined("fast", 0.0)
    effort.joined("slow", 1.0)
    for _ in range(3):
        effort.answered("fast", "/a", 300, 1.0, 30, True)
    effort.answered("slow", "/b", 200, 2.0, 20, True)
    effort.answered("slow", "/b", 50, 0.4, 5, False)
    return effort


def test_the_ideal_time_is_that_of_the_workers_rates_as_they_came() -> None:
    workers = list(two_unequal_workers().workers.values())
    assert ideal_s(workers, 10.0) == pytest.approx(1 + (1100 - 300) / 400)
    assert efficiency(workers, 6.0) == pytest.approx(0.5)
    assert ideal_s(workers, 3.0) == pytest.approx(3.0)
    assert efficiency([], 3.0) is None
    gone = Effort()
    gone.joined("a", 0.0)
    gone.joined("b", 0.0)
    for worker in ("a", "b"):
        gone.answered(worker, "/a", 100, 1.0, 1, True)
    gone.left("b", 1.0)
    assert ideal_s(list(gone.workers.values()), 9.0) == pytest.approx(1.0)


def test_what_failed_is_no_work_but_takes_its_time() -> None:
    effort = two_unequal_workers()
    assert effort.workers["slow"][3:8] == (2.0, 200, 25, 1, 1)
    assert effort.file_wall_s == {"/a": 3.0, "/b": 2.4}
    effort.answered("never seen", "/c", 1, 1.0, 1, True)
    assert set(effort.workers) == {"fast", "slow"}


def test_what_was_read_is_added_up_by_place() -> None:
    found = origins(
        [
            ("TORINO", "/d/a.root", 10, 100),
            ("TORINO", "file:///d/b.root", 10, 100),
            ("TORINO", "zip://m.root::/d/b.zip", 5, 50),
            ("", "root://eos.example//x.root", 10, 900),
            ("", "/d/c.root", 10, 1),
        ]
    )
    assert [(one.place, one.remote, one.files, one.entries, one.read_bytes) for one in found] == [
        ("eos.example", True, 1, 10, 900),
        ("TORINO", False, 3, 25, 250),
        ("this machine", False, 1, 10, 1),
    ]


@pytest.mark.slow
def test_the_report_says_who_did_what_and_how_well(
    result: AnalysisResult, script: Script, tmp_path: Path
) -> None:
    effort = two_unequal_workers()
    effort.drained("slow", "OSError: <no space>")
    slow = FileResult("/lhc/slow.root", "root://far//s.root", "FAR", 10, 200, 200, 0, 20, 2.4)
    quick = FileResult("/lhc/quick.root", "/d/q.root", "HERE", 10, 900, 900, 0, 90, 3.0)
    full = replace(result, files=[slow, quick], efforts=list(effort.workers.values()), wall_s=6.0)
    path = report.write_report(tmp_path / "report.html", report.ReportContent("t", "s", full))
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    for wanted in (
        "50 %",
        "over the network",
        "drained:",
        "OSError: <no space>",
        "Slowest files",
        "Traceback",
    ):
        assert wanted in page.text, wanted
    slowest = page.text.partition("Slowest files")[2]
    assert slowest.index("/lhc/quick.root") < slowest.index("/lhc/slow.root")
    assert output.save(full, tmp_path, script)
    numbers = json.loads((tmp_path / "result.json").read_text())
    assert numbers["efficiency"] == pytest.approx(0.5)
    assert numbers["slowest"] == ["/lhc/quick.root", "/lhc/slow.root"]
