"""What a script may look like, and what its author is told when it is wrong."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from vse.analysis.script import ScriptSource, describe, load_script, load_source
from vse.errors import BadScript

PLAIN = "def process(events):\n    return len(events)\n"


def load(text: str) -> object:
    return load_source(ScriptSource("/home/me/my.py", text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def process(events:\n    return 1\n", "my.py:1: SyntaxError"),
        ("x = 1\ny = undefined_name\n", "my.py:2: NameError: name 'undefined_name' is not defined"),
        ("import no_such_module_at_all\n" + PLAIN, "my.py:1: ModuleNotFoundError"),
        ("x = 1\n", "neither a function process(events) nor a processor class"),
        ("def process():\n    return 1\n", "cannot be called with the events alone"),
        (PLAIN + "branches = 7\n", "branches is not a list of names"),
        (PLAIN + "tree = 7\n", "tree is not a string"),
        ("import sys\nsys.exit(4)\n", "my.py:2: SystemExit"),
        (
            "class A:\n    def process(self, e): return 1\nclass B:\n    def process(self, e): return 1\n",
            "several processors (A, B)",
        ),
        (
            "class A:\n    def __init__(self, year): pass\n    def process(self, e): return 1\n",
            "A() raised",
        ),
    ],
)
def test_a_bad_script_is_one_clear_line(text: str, found: str) -> None:
    with pytest.raises(BadScript) as caught:
        load(text)
    message = str(caught.value)
    assert found in message
    assert "\n" not in message
    assert "/home/me/my.py" in message


def test_a_script_that_is_not_there() -> None:
    with pytest.raises(BadScript, match="No such file"):
        load_script(Path("/nowhere/my.py"))


def test_all_forms_are_found() -> None:
    function = load_source(ScriptSource("/a.py", PLAIN + "branches = 'Muon_*'\ntree = 'Events'\n"))
    assert (function.process([1, 2]), function.branches, function.tree) == (2, ("Muon_*",), "Events")
    analyse = load_source(ScriptSource("/b.py", "def analyse(events):\n    return 3\n"))
    assert analyse.process([]) == 3
    text = (
        "class Mine:\n    def __init__(self, k=2): self.k = k\n"
        "    def process(self, events): return self.k\n    def postprocess(self, total): return -total\n"
    )
    only_class = load_source(ScriptSource("/c.py", text))
    assert (only_class.process([]), only_class.finish(5)) == (2, -5)
    instance = load_source(ScriptSource("/d.py", text + "processor = Mine(7)\n"))
    assert instance.process([]) == 7
    assert instance.kind == "plain"


def test_a_postprocess_that_changes_its_argument_need_not_return_it() -> None:
    script = load_source(ScriptSource("/e.py", PLAIN + "def postprocess(out):\n    out['x'] = 1\n"))
    assert script.finish({"n": 2}) == {"n": 2, "x": 1}


def test_a_failure_names_the_users_own_line_and_keeps_the_traceback() -> None:
    text = "import json\ndef process(events):\n    value = events\n    return json.loads(value)\n"
    source = ScriptSource("/home/me/my.py", text)
    script = load_source(source)
    with pytest.raises(ValueError) as caught:
        script.process("{")
    failure = describe(caught.value, source)
    assert failure.message.startswith("my.py:4: JSONDecodeError: Expecting property name")
    assert "return json.loads(value)" in failure.traceback
    assert failure.traceback.count("\n") >= len(traceback.extract_tb(caught.value.__traceback__))
