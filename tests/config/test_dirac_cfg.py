"""DIRAC's own syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.config.dirac_cfg import parse, render
from vse.errors import BadSettings


def test_sections_options_comments_and_braces_in_every_place():
    text = """\
# a comment
Resources
{
  Sites { LCG {
    } }
  StorageElements{
    CERN-USER
    {
        # Port = 1
      Port = 8443
      WSUrl = /srm/managerv2?SFN=
      Empty =
    }
  }
}
"""
    cfg = parse(text)
    element = {"Port": "8443", "WSUrl": "/srm/managerv2?SFN=", "Empty": ""}
    assert cfg.tree == {"Resources": {"Sites": {"LCG": {}}, "StorageElements": {"CERN-USER": element}}}
    assert cfg.lines[("Resources",)] == 2
    assert cfg.lines[("Resources", "Sites", "LCG")] == 4
    assert cfg.lines[("Resources", "StorageElements", "CERN-USER", "WSUrl")] == 11


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A = x\nA = y", "y"),
        ("A = x\nA += y", "x, y"),
        ("A += y", "y"),
        ("A =\nA += y\nA+=z", "y, z"),
        ("A = x += y", "x += y"),
        ("A = 8443 # not a comment", "8443 # not a comment"),
        ("A = http://a//b", "http://a//b"),
        ("A = { x }", "{ x }"),
        ('A = " x "', " x "),
        ('A = "', '"'),
        ('A = "a", "b', '"a", "b'),
        ("A=x", "x"),
        ("\tA\t=\tx\t", "x"),
        ("A = x\r\n", "x"),
    ],
)
def test_values(text, value):
    assert parse(text).tree == {"A": value}


def test_an_option_given_again_keeps_its_place_and_tells_its_last_line():
    cfg = parse("A = 1\nB = 2\nA = 3\n")
    assert list(cfg.tree.items()) == [("A", "3"), ("B", "2")]
    assert cfg.lines[("A",)] == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A\n{\n", "my.cfg:1: the section A is not closed"),
        ("A\n{\n}\n}\n", "my.cfg:4: this } closes a section that was never opened"),
        ("\n{\n}", "my.cfg:2: this { opens a section that has no name"),
        ("A\nB\n{\n}", "my.cfg:1: 'A' is neither an option nor a section"),
        ("A", "my.cfg:1: 'A' is neither"),
        ("A\nB = 1", "my.cfg:1: 'A' is neither"),
        ("A {\nB\n}", "my.cfg:2: 'B' is neither"),
        ("A {\n}\nA {\n}", "my.cfg:3: A is there already, in line 1"),
        ("A {\n}\nA = 1", "my.cfg:3: A is a section already, in line 1"),
        ("A = 1\nA {\n}", "my.cfg:2: A is there already, in line 1"),
        ("A { B = 1 }", "my.cfg:1: 'B = 1' stands behind a brace"),
        ("= 1", "my.cfg:1: this option has no name"),
        ("A/B = 1", "my.cfg:1: the name 'A/B' has a /"),
    ],
)
def test_errors_name_file_and_line(text, words):
    with pytest.raises(BadSettings) as caught:
        parse(text, "my.cfg")
    assert words in str(caught.value)


_no_breaks = st.characters(exclude_categories=("Cs",), exclude_characters="\n")
_names = st.text(
    st.characters(categories=("L", "N"), include_characters="-_.$ "), min_size=1, max_size=12
).filter(lambda name: name == name.strip())
_values = st.text(_no_breaks, max_size=20)
_trees = st.recursive(
    st.dictionaries(_names, _values, max_size=4),
    lambda inner: st.dictionaries(_names, st.one_of(_values, inner), max_size=4),
    max_leaves=12,
)


@given(_trees)
def test_what_is_rendered_is_read_again(tree):
    text = render(tree)
    cfg = parse(text)
    assert cfg.tree == tree
    assert render(cfg.tree) == text
    for key, line in cfg.lines.items():
        assert text.split("\n")[line - 1].strip().startswith(key[-1])


@given(st.text(st.sampled_from("ab={}+#/ \n\"'"), max_size=60))
def test_any_text_is_read_or_refused_with_its_line(text):
    try:
        parse(text, "my.cfg")
    except BadSettings as error:
        assert "my.cfg:" in str(error)
