"""What is not in a result is told by its reason, in report and live page; pictures cost no result."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from vse.analysis.ledger import FailedRange, Failure
from vse.analysis.live import MOST_GONE, LivePage, drawable
from vse.analysis.plots import FORMATS, counted, save_histogram
from vse.analysis.report import ReportContent, left_out, place_text, write_report
from vse.analysis.report_effort import Effort
from vse.analysis.result import AnalysisResult, FileResult, Progress

RAISES = "z.py:7: ValueError: <no calibration>"
TOO_BIG = "it takes 4 MB and 3 MB are allowed"


def result(**more: Any) -> AnalysisResult:
    files = [FileResult(f"/lhc/{n}.root", "", "HERE", 10, 1000, 0, 1000, 5) for n in range(6)]
    failed = [FailedRange(file.lfn, 0, 1000, Failure(RAISES, "trace of it")) for file in files[:5]]
    failed += [FailedRange("/lhc/5.root", 1234, 1235, Failure("z.py:9: KeyError"))]
    fields: dict[str, Any] = {
        "script": "z.py", "dataset": "/lhc", "output": {}, "entries_processed": 999, "files": files,
        "failed": failed, "broken": [("/lhc/b.root", "no tree")],
        "missing": [("/lhc/m1.root", "it is gone"), ("/lhc/m2.root", "it is gone")],
        "read_bytes": 1, "wall_s": 2.0, "workers": 1, "packets": 3, "workers_lost": 0,
    }  # fmt: skip
    return AnalysisResult(**fields | more)


def told(page: LivePage) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {page.url.partition('#')[2]}"}
        connection.request("GET", "/state", headers=headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_each_reason_is_told_once_with_how_much_it_is() -> None:
    assert [(one.amount, one.reason, len(one.places)) for one in left_out(result())] == [
        ("2 files: did not come", "it is gone", 2),
        ("1 file: cannot be read", "no tree", 1),
        ("5,000 entries of 5 files", RAISES, 5),
        ("1 entry of 1 file", "z.py:9: KeyError", 1),
    ]
    assert place_text("/a", 7, 8) == "/a, entry 7"
    assert place_text("/a", 0, 40_000) == "/a, entries 0 to 39,999"


def test_the_report_has_a_row_for_each_reason_and_hides_long_lists(tmp_path: Path) -> None:
    content = ReportContent("t", "s", result(too_big=TOO_BIG))
    text = write_report(tmp_path / "report.html", content).read_text()
    assert text.count("ValueError: &lt;no calibration&gt;") == 1
    assert "5,000 entries of 5 files" in text
    assert "/lhc/2.root, entries 0 to 999" in text
    assert "and 2 more" in text
    assert "/lhc/5.root, entry 1,234" in text
    assert "2 files: did not come" in text
    assert TOO_BIG in text
    assert ">worker<" in text


def test_the_live_page_ends_with_ranges_and_not_as_if_all_were_well() -> None:
    with LivePage("t", "d") as page:
        page.finish(result(too_big=TOO_BIG), "The report is r.html.")
        state = told(page)
    assert (state["state"], state["complete"], state["too_big"]) == ("done", False, TOO_BIG)
    ranges = next(one for one in state["left_out"] if one["reason"] == RAISES)
    assert ranges["amount"] == "5,000 entries of 5 files"
    assert ranges["places"] == [f"/lhc/{n}.root, entries 0 to 999" for n in range(3)]
    assert ranges["more"] == 2
    assert state["entries_done"] == 999


def test_the_live_page_tells_what_is_left_out_and_where_it_hangs_while_it_runs() -> None:
    hang = FailedRange("/lhc/7.root", 0, 500, Failure("it hangs: after 11 s it was still at z.py:3"))
    ended = result()
    news = {"failed": ended.failed, "broken": ended.broken, "missing": ended.missing, "hanging": [hang]}
    with LivePage("t", "d") as page:
        page.hear(Progress(1, 5001, 10_000, 9, 5, True, 1, 1.0, 1.0, None, {}, None, **news))
        running = told(page)
        page.finish(ended)
        state = told(page)
    assert running["state"] == "running"
    assert running["left_out"] == state["left_out"]
    assert running["left_out"][2]["amount"] == "5,000 entries of 5 files"
    assert running["hanging"] == [{"place": "/lhc/7.root, entries 0 to 499", "reason": hang.failure.message}]
    assert state["hanging"] == []


def test_workers_that_went_stand_last_and_do_not_fill_the_page() -> None:
    effort = Effort()
    names = [f"tls://10.0.0.{n}:9" for n in range(1, 31)]
    for n, name in enumerate(names):
        effort.joined(name, 0.0)
        effort.answered(name, "/a", n, 0.1, 1, True)
        if n < 28:
            effort.left(name, 1.0)
    workers = tuple(effort.workers.values())
    with LivePage("t", "d") as page:
        page.hear(Progress(1, 0, 10, 1, 0, False, 1, 1.0, 1.0, 1.0, {}, None, efforts=workers))
        state = told(page)
    shown = state["workers"]
    assert [one["name"] for one in shown[:2]] == ["10.0.0.29:9", "10.0.0.30:9"]
    assert [one["left"] for one in shown] == [False, False, *[True] * MOST_GONE]
    assert shown[2]["entries"] == 27
    assert state["more_workers"] == 28 - MOST_GONE


@pytest.mark.parametrize(
    "make",
    [
        lambda: hist.Hist.new.StrCat([], growth=True, label="channel").Double(),
        lambda: hist.Hist.new.Var([-np.inf, 0, np.inf], label="z").Double(),
        lambda: hist.Hist.new.Reg(3, 0, 1, label=r"$\nosuchword{x}$ [GeV]").Double(),
        lambda: hist.Hist.new.StrCat(["a", "b"], label="c").Reg(3, 0, 1).Double(),
        lambda: hist.Hist.new.Reg(3, 0, 1).Mean(),
    ],
    ids=["no bins", "endless bins", "bad mathematics", "names against numbers", "means"],
)
def test_a_histogram_that_is_hard_to_draw_ends_no_analysis(make: Callable[[], Any], tmp_path: Path) -> None:
    paths = save_histogram(make(), tmp_path / "h", "a name with $ and % and _" * 5)
    assert [path.name for path in paths] == [f"h.{kind}" for kind in FORMATS]
    assert all(path.stat().st_size > 500 for path in paths)
    (drawn,) = drawable({"h": make()})
    json.dumps(drawn, allow_nan=False)


def test_what_lies_beyond_the_axis_is_counted_in_the_picture() -> None:
    inside = hist.Hist.new.Reg(10, 0, 10).Double().fill([1, 2, 3])
    assert counted(inside) == "3 entries"
    assert counted(inside.fill([-1, 20])) == "3 entries, 2 outside"
