import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.errors import BadLfn
from vse.model import Lfn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/alice/data/2013/AliAOD.root", "/alice/data/2013/AliAOD.root"),
        ("//alice//data/", "/alice/data"),
        ("/", "/"),
        ("alien:///alice/data/x.root", "/alice/data/x.root"),
        ("lfn:/alice/x", "/alice/x"),
        ("/with blanks/and ünïcode/日本.root", "/with blanks/and ünïcode/日本.root"),
        ("/a#b/c?d/e%20f", "/a#b/c?d/e%20f"),
    ],
)
def test_parse_normalises(text, expected):
    assert Lfn.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("alice/x", "does not start with '/'"),
        ("", "does not start with '/'"),
        ("/a/../b", "'..' is not allowed"),
        ("/a/./b", "'.' is not allowed"),
        ("/a\nb", "control character"),
        ("/a\x00b", "control character"),
        ("/a\udcffb", "surrogate"),
        ("/" + "x" * 1000, "1000 bytes; at most 255"),
        ("/" + "é" * 200, "400 bytes; at most 255"),
        ("/" + "/".join(["d" * 200] * 20), "at most 2048"),
    ],
)
def test_parse_says_what_is_wrong(text, reason):
    with pytest.raises(BadLfn) as caught:
        Lfn.parse(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_thousand_characters_are_a_name():
    name = "/" + "/".join(["d" * 99] * 10)
    assert len(name) == 1000
    assert Lfn.parse(name) == name


def test_forms_of_one_unicode_name_are_one_name():
    composed, decomposed = "/caf\u00e9", unicodedata.normalize("NFD", "/caf\u00e9")
    assert composed != decomposed
    assert Lfn.parse(composed) == Lfn.parse(decomposed)


@given(st.text(max_size=60))
def test_parse_is_idempotent_and_never_escapes(text):
    try:
        lfn = Lfn.parse("/" + text)
    except BadLfn:
        return
    assert Lfn.parse(lfn) == lfn
    assert lfn.startswith("/")
    assert not {"", ".", ".."} & set(lfn[1:].split("/")) or lfn == "/"
    assert lfn == "/" or lfn.parent.child(lfn.name) == lfn


def test_is_below_compares_whole_parts():
    assert Lfn("/a/b/c").is_below("/a/b")
    assert Lfn("/a/b").is_below("/a/b")
    assert Lfn("/a/b").is_below("/")
    assert not Lfn("/a/bc").is_below("/a/b")
