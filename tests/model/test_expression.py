"""The language of conditions: what is understood, what is refused, and where it points."""

from __future__ import annotations

import fnmatch
import operator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vse.errors import BadQuery
from vse.model.expression import (
    And,
    Compare,
    Decided,
    In,
    Literal,
    Match,
    Missing,
    Name,
    Not,
    Or,
    Truth,
    all_of,
    any_of,
    bind,
    evaluate,
    is_hopeless,
)
from vse.model.expression_grammar import MAX_DEPTH, parse
from vse.model.expression_types import check

TYPES = {"run": "integer", "pass": "text", "luminosity": "number", "taken": "time", "good": "boolean"}


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


def refusal(text):
    with pytest.raises(BadQuery) as caught:
        parse(text)
    return str(caught.value)


def meets(text, **values):
    return evaluate(check(parse(text), TYPES, text), values.get)


@pytest.mark.parametrize(
    ("text", "values", "answer"),
    [
        ('run >= 195682 and pass = "muon"', {"run": 195682, "pass": "muon"}, True),
        ('run >= 195682 and pass = "muon"', {"run": 195681, "pass": "muon"}, False),
        ("RUN = 1 OR run = 2".lower(), {"run": 2}, True),
        ("run = 1 or run = 2 and run = 3", {"run": 1}, True),
        ("(run = 1 or run = 2) and run = 3", {"run": 1}, False),
        ("not run = 1 and run = 2", {"run": 2}, True),
        ("NOT run IN (1, 2) AND run BETWEEN 3 AND 5", {"run": 5}, True),
        ("run not between 3 and 5", {"run": 5}, False),
        ("run == 1", {"run": 1}, True),
        ("run <> 1", {"run": 1}, False),
        ("size > 1 GiB", {"size": 2**30}, False),
        ("size >= 1.5kB", {"size": 1500}, True),
        ("size < 1 MB", {"size": 999_999}, True),
        ("modified < 2026-01-31", {"modified": NOON - 86400}, True),
        ("taken = 2026-01-31T13:00+01:00", {"taken": NOON}, True),
        ('taken > "2026-01-31"', {"taken": 0.0}, False),
        ('pass like "mu_n%"', {"pass": "muon_calo"}, True),
        ('pass like "mu\\\\_n"', {"pass": "muon"}, False),
        ('pass like "MUON"', {"pass": "muon"}, False),
        ("name glob '*[0-9].root'", {"name": "a7.root"}, True),
        ("name not glob '*.root'", {"name": "a.txt"}, True),
        ("good", {"good": True}, True),
        ("not good", {"good": True}, False),
        ("good = false", {"good": False}, True),
        ("run is null", {}, True),
        ("run is not null", {"run": 0}, True),
        ("run exists", {}, False),
        ("run not exists", {}, True),
        ('name = "a \\"b\\" \\u00e9"', {"name": 'a "b" é'}, True),
        ("name = 'it\\'s'", {"name": "it's"}, True),
        ('guid = "00000000-0000-0000-0000-0000000000FF"', {"guid": str(UUID(int=255))}, True),
        ('se = "A"', {"se": frozenset(["A", "B"])}, True),
        ('se != "A"', {"se": frozenset(["A", "B"])}, False),
        ('se != "A"', {"se": frozenset()}, True),
        ('se in ("C", "B")', {"se": frozenset(["A", "B"])}, True),
        ('se like "T%"', {"se": frozenset(["A", "TORINO"])}, True),
        ("se is null", {"se": frozenset()}, True),
        ("luminosity > -1.5e-3", {"luminosity": 0.0}, True),
    ],
)  # fmt: skip
def test_what_a_condition_means(text, values, answer):
    assert meets(text, **values) is answer


@pytest.mark.parametrize(
    "text", ["run = 1", "not run = 1", "run in (1)", "run != 1", 'pass like "%"', "good"]
)
def test_a_value_that_is_not_there_makes_the_answer_unknown(text):
    assert meets(text) is None
    assert meets(f"not ({text})") is None
    assert meets(f"{text} or size > 0", size=1) is True
    assert meets(f"{text} and size > 0", size=0) is False


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "a field or tag"),
        ("run >> 5", 6, "a value"),
        ("pass = muon", 8, 'in quotes: "muon"'),
        ("run =", 6, "this is the end"),
        ("(run = 1", 9, "')'"),
        ("run = 1)", 8, "the end"),
        ("run = 1 run = 2", 9, "'and', 'or' or the end"),
        ("size > 1 Gib", 10, "units of size"),
        ('pass = "muon', 8, "not closed"),
        ("run in ()", 9, "a value"),
        ("run = 1 && good", 9, "'and'"),
        ("taken > 2026-02-30", 9, "no time"),
        ("run = 99999999999999999999", 7, "64 bits"),
        ("luminosity = 1e999", 14, "larger"),
        (r'pass = "\q"', 9, "no escape"),
        (r'pass = "\ud800"', 9, "no escape"),
        ("run = 1\x00", 8, "no name"),
        ("rum = 5", 1, "did you mean 'run'?"),
        ("good and rum = 5", 10, "did you mean 'run'?"),
        ("SIZE > 5", 1, "did you mean 'size'?"),
        ("xyzzy = 5", 1, "known here: size"),
        ('run = "5"', 7, "run is an integer"),
        ("pass > 5", 8, "pass is a text"),
        ("run", 1, "compare it with a value"),
        ('run like "5"', 1, "like is for texts"),
        ("good > true", 1, "use = or !="),
        ('se < "A"', 1, "use = or !="),
        ('guid = "xyz"', 8, "a GUID"),
        ("good = 1", 8, "true or false"),
    ],
)
def test_what_is_wrong_is_pointed_at(text, column, words):
    with pytest.raises(BadQuery) as caught:
        check(parse(text), TYPES, text)
    message, shown, caret = str(caught.value).split("\n")
    assert f"column {column}:" in message
    assert words in message
    assert caret.index("^") - 2 == column - 1
    assert shown[2:].rstrip() == text.replace("\x00", " ").rstrip()


def test_the_caret_stands_below_what_it_means_in_long_and_wide_texts():
    text = "run = 1 and " * 50 + "run >> 1 and " + "run = 1 and " * 50 + "good"
    _, shown, caret = refusal(text).split("\n")
    assert shown[caret.index("^") - 1 : caret.index("^") + 1] == ">>"
    assert len(shown) < 110
    _, _, caret = refusal('name = "日本" x').split("\n")
    assert caret.index("^") == 2 + len('name = "') + 4 + 2


@pytest.mark.parametrize("text", ["(" * 5000, "not " * 5000 + "good", "(" * 5000 + "good" + ")" * 5000])
def test_what_is_nested_too_deep_is_refused(text):
    with pytest.raises(BadQuery):
        parse(text)
    depth = MAX_DEPTH - 1
    assert evaluate(parse("not " * depth + "good"), {"good": True}.get) is (depth % 2 == 0)


# -- properties ---------------------------------------------------------------------------------------------

_words = st.sampled_from(["run", "pass", "good", "size", "name", "se", "x.y"]).map(Name)
_numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
_texts = st.text(_characters, max_size=12)
_times = st.datetimes(timezones=st.just(UTC))
_literals = (_numbers | _texts | st.booleans() | _times).map(Literal)
_operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_predicates = (
    st.builds(Compare, _words, _operators, _literals)
    | st.builds(In, _words, st.lists(_literals, min_size=1, max_size=3).map(tuple))
    | st.builds(Match, _words, st.sampled_from(["like", "glob"]), _texts.map(Literal))
    | st.builds(Missing, _words)
    | st.builds(Truth, _words)
)


def _composed(parts):
    several = st.lists(parts, min_size=2, max_size=3)
    return several.map(all_of) | several.map(any_of) | parts.map(Not)


@given(st.recursive(_predicates, _composed, max_leaves=8))
def test_the_text_of_an_expression_means_the_expression(expression):
    assert parse(str(expression)) == expression


_SCRAPS = r"""run pass and or not ( ) , = != <= in like glob between is null exists "x" "\u12" ' 1 1e999 1 GiB
2026-01-01 2026-99-99T11:11 true \ é ,, ."""
_scraps = st.lists(st.sampled_from([*_SCRAPS.split(), "\ud800", "\x00", "\n"]), max_size=12).map(" ".join)


@given(_scraps | st.text())
@example("run = 1" + "0" * 5000)
@example("taken = 0001-01-01T00:00+23:59")
@example("taken = 9999-12-31T23:59-23:59")
@example("size > 1e5 GiB")
@example("size > 999999999999 EB")
@example("size > 1.2.3 GiB")
def test_no_text_does_anything_but_parse_or_be_refused(text):
    try:
        checked = check(parse(text), TYPES, text)
    except BadQuery as error:
        assert "column " in str(error)
    else:
        evaluate(checked, lambda name: None)


_PYTHON = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
_letters = st.text("ab_%*", max_size=4)
_typed = {
    "run": st.integers(-2, 2),
    "luminosity": st.sampled_from([-1.5, 0.0, 0.5, 2.0]),
    "pass": _letters,
    "taken": st.sampled_from([0.0, 86400.0]),
    "good": st.booleans(),
}
VALUES = st.fixed_dictionaries({}, optional=_typed)


@st.composite
def plain(draw):
    """An expression as text, and a plain Python function that says what it means: True, False or None."""
    name = draw(st.sampled_from(sorted(_typed)))
    kind = draw(st.sampled_from(["compare", "in", "null", "between", "like", "truth"]))
    literal = _typed[name].map(lambda value: (value, _written(name, value)))
    if kind == "null":
        return f"{name} is null", lambda values: values.get(name) is None
    if kind == "in":
        several = draw(st.lists(literal, min_size=1, max_size=3))
        text = f"{name} in ({', '.join(written for _, written in several)})"
        return text, _if_there(name, lambda value: value in [one for one, _ in several])
    if kind == "like" and name == "pass":
        glob = draw(st.text("ab*?", max_size=4))
        return f'pass glob "{glob}"', _if_there(name, lambda value: fnmatch.fnmatchcase(value, glob))
    if kind == "truth" and name == "good":
        return "good", _if_there(name, bool)
    if kind == "between" and name != "good":
        (low, first), (high, second) = draw(literal), draw(literal)
        return f"{name} between {first} and {second}", _if_there(name, lambda value: low <= value <= high)
    wanted, written = draw(literal)
    sign = draw(st.sampled_from(["=", "!="] if name == "good" else sorted(_PYTHON)))
    return f"{name} {sign} {written}", _if_there(name, lambda value: _PYTHON[sign](value, wanted))


def _written(name, value):
    if name == "taken":
        return "1970-01-01" if value == 0 else "1970-01-02"
    return str(Literal(value))


def _if_there(name, meets):
    return lambda values: None if values.get(name) is None else meets(values[name])


def _and(first, second):
    def both(values):
        answers = {first[1](values), second[1](values)}
        return False if False in answers else None if None in answers else True

    return f"({first[0]}) and ({second[0]})", both


def _or(first, second):
    def either(values):
        answers = {first[1](values), second[1](values)}
        return True if True in answers else None if None in answers else False

    return f"({first[0]}) or ({second[0]})", either


def _not(part):
    return f"not ({part[0]})", lambda values: None if part[1](values) is None else not part[1](values)


CONDITIONS = st.recursive(
    plain(),
    lambda parts: st.builds(_and, parts, parts) | st.builds(_or, parts, parts) | st.builds(_not, parts),
    max_leaves=6,
)


@given(CONDITIONS, VALUES, st.sets(st.sampled_from(sorted(_typed))))
def test_the_evaluator_agrees_with_plain_python(condition, values, bound):
    text, meaning = condition
    checked = check(parse(text), TYPES, text)
    answer = meaning(values)
    assert evaluate(checked, values.get) is answer
    rest = bind(checked, {name: values.get(name) for name in bound})
    assert evaluate(rest, values.get) is answer
    assert not (is_hopeless(rest) and answer)
    whole = bind(checked, {name: values.get(name) for name in TYPES})
    assert whole == Decided(answer)


def test_parts_of_the_same_kind_are_flat():
    expression = parse("run = 1 and (run = 2 and run = 3) or (good or run = 4)")
    assert isinstance(expression, Or)
    assert [type(part) for part in expression.parts] == [And, Truth, Compare]
    assert len(expression.parts[0].parts) == 3
