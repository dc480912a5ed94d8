"""The tests' own waiting says what did not happen."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.waiting import until


def test_it_gives_what_came_true() -> None:
    came = iter(["", [], "here"])
    assert until(lambda: next(came)) == "here"


def test_it_says_what_did_not_happen() -> None:
    with pytest.raises(AssertionError) as failed:
        until(lambda: list("ab") == ["a"], 0.05, told=lambda: "the log")
    assert str(failed.value).startswith("not within 0.05 s: ")
    assert 'until(lambda: list("ab") == ["a"], 0.05' in str(failed.value)
    assert str(failed.value).endswith("the last answer was False\nthe log")
    with pytest.raises(AssertionError, match=r"^not within 0 s: the moon rises; the last answer was \[\]$"):
        until(list, 0, what="the moon rises")


def test_it_does_not_outlast_the_process_that_is_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(AssertionError, match="the process ended with 3 before: list"):
        until(list, process=process)
