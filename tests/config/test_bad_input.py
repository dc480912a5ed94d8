"""Whatever stands in the settings: it is read, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vse.config.load import load
from vse.errors import BadSettings


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


_names = st.sampled_from(["A", "B", "E", "F", "G"])
_listed = st.one_of(_names, st.just("A, E"), st.lists(_names, max_size=2))
_wrong = st.sampled_from(["", 5, True, ["A", 1], {"A": "B"}, {"A": {"B": []}}])


def _mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What belongs there; about one time in thirty something else."""
    return st.integers(0, 29).flatmap(lambda number: _wrong if number == 29 else right)


def _table(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: _mostly(one) for name, one in options.items()})


_section = _table(
    Host=_names,
    Port=st.sampled_from([1, "8443"]),
    Path=st.just("/x"),
    Access=st.sampled_from(["local", "Remote"]),
    Protocol=st.sampled_from(["file", "srm"]),
    VOPath=st.dictionaries(_names, st.just("/y"), max_size=2),
    Volumes=st.just([{"Path": "a", "Size_bytes": 5}]),
    Options=st.dictionaries(_names, st.integers(), max_size=2),
    SvcClass=_names,
)
_described = {
    "VO": _listed,
    "SEType": st.sampled_from(["T1D0", "T0D1"]),
    "ReadAccess": st.sampled_from(["Banned", "Active", True]),
    "ArchiveTimeout": st.integers(1, 9),
    "TotalCapacityTB": st.integers(1, 9),
    "S": _section,
    "T": _section,
}
_plain = _table(**_described)
_base = _table(BaseSE=st.sampled_from("AB"), **_described)
_element = _table(BaseSE=st.sampled_from("AB"), **_described) | _table(Alias=st.sampled_from("EF"))
_trees = _table(
    site=_table(vo=_names, name=_names),
    StorageElementBases=st.fixed_dictionaries({"A": _mostly(_plain), "B": _base}),
    StorageElements=st.fixed_dictionaries({"E": _plain, "F": _element}),
    StorageElementAliases=st.dictionaries(st.sampled_from("GH"), _mostly(st.sampled_from("EF")), max_size=2),
    StorageElementGroups=st.dictionaries(st.sampled_from("GH"), _mostly(_listed), max_size=2),
    Sites=st.dictionaries(
        _names, _table(SE=_listed, AssociatedSEs=st.dictionaries(_names, _listed, max_size=2)), max_size=2
    ),
    dirac=_table(cfg=st.sampled_from(["one.cfg", ["one.cfg", "none.cfg"]])),
)


@given(tree=_trees)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_read_or_refused(tmp_path: Path, tree: dict[str, Any]) -> None:
    path = tmp_path / "vse.toml"
    (tmp_path / "one.cfg").write_text("StorageElements {\n E {\n SEType = T1D0\n S {\n Host = x\n}\n}\n}\n")
    path.write_text("".join(f"{key} = {as_toml(value)}\n" for key, value in tree.items()))
    try:
        loaded = load(path)
    except BadSettings as error:
        assert str(tmp_path) in str(error)
        return
    for element in loaded.settings.storage_elements.values():
        assert not element.alias
        assert not element.base_se


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[StorageElements.E]\nBaseSE = ['A']", "BaseSE of E is no name"),
        ("[StorageElements.E]\nAlias = ['A']", "E is to be ['A'], which is no name"),
        ("[StorageElements.E]\nHost = 'a'", "belongs into a protocol section: [StorageElements.E.SECTION]"),
        ("[StorageElements.E]\nSEType = {a = 1}", "StorageElements.E.SEType: Input should be a valid string"),
        ("[StorageElements.E.Alias.S]", "E is to be {'S': {}}, which is no name"),
        ("[StorageElements.E.VO]\n[StorageElements.E.S]\nPort = 0", "(and 1 more)"),
        ("[StorageElements.E.VO]\n[StorageElements.E.S]\nPort = 0", "StorageElements.E.VO: "),
        ("[dirac]\ncfg = 5", "dirac.cfg"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, words):
    (tmp_path / "vse.toml").write_text(text)
    with pytest.raises(BadSettings) as caught:
        load(tmp_path / "vse.toml")
    assert words in str(caught.value)
