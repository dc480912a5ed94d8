"""Names of other catalogues and LFNs here, both ways: nothing is lost, nothing has two names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vse.catalogue.port import CopyMade
from vse.catalogue.upstream.mapping import RUCIO_RULES, Mapped, NameRules
from vse.config.upstreams import MappingRule
from vse.errors import NoSuchEntry, Unsupported
from vse.model import BulkResult, Entry, Lfn, Located, Replica, ReplicaState

RULES = {
    "rucio": RUCIO_RULES,
    "under a directory": (MappingRule(upstream="{scope}:{rest...}", lfn="/rucio/{scope}/{rest...}"),),
    "two": (
        MappingRule(upstream="mc:{year}_{rest...}", lfn="/mc/{year}/{rest...}"),
        MappingRule(upstream="{scope}:{rest...}", lfn="/{scope}/{rest...}"),
    ),
    "nested": (
        MappingRule(upstream="/vo/a/{rest...}", lfn="/first/{rest...}"),
        MappingRule(upstream="/vo/{rest...}", lfn="/second/{rest...}"),
    ),
    "parts": (MappingRule(upstream="/grid/{run}.{kind}/{rest...}", lfn="/{kind}/run{run}/{rest...}"),),
    "one file each": (MappingRule(upstream="data:{run}.root", lfn="/data/{run}.root"),),
    "none": (),
}
TEXT = st.text(st.sampled_from("ab./:_-1"), min_size=1, max_size=12)
PART = st.text(st.sampled_from("ab.:_-1"), min_size=1, max_size=6)
NAMES = st.one_of(
    TEXT,
    st.builds("{}:{}".format, PART, TEXT),
    st.builds("mc:{}_{}".format, PART, TEXT),
    st.builds("/vo/{}".format, TEXT),
    st.builds("/vo/a/{}".format, TEXT),
    st.builds("/grid/{}.{}/{}".format, PART, PART, TEXT),
    st.builds("data:{}.root".format, PART),
).filter(lambda name: not name.startswith(":"))


@pytest.mark.parametrize(
    ("which", "name", "lfn"),
    [
        ("rucio", "user.jdoe:data/run1.root", "/user.jdoe/data/run1.root"),
        ("rucio", "lhc:a:b", "/lhc/a:b"),
        ("under a directory", "lhc:f", "/rucio/lhc/f"),
        ("two", "mc:2018_x/y", "/mc/2018/x/y"),
        ("two", "data:x/y", "/data/x/y"),
        ("nested", "/vo/a/b/c", "/first/b/c"),
        ("nested", "/vo/ab/c", "/second/ab/c"),
        ("parts", "/grid/12.esd/x", "/esd/run12/x"),
        ("none", "/a/b", "/a/b"),
    ],
)
def test_names_here_and_there(which: str, name: str, lfn: str) -> None:
    rules = NameRules(RULES[which])
    assert rules.lfn_of(name) == lfn
    assert rules.name_of(Lfn(lfn)) == name


@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("rucio", "noscope"),
        ("rucio", "lhc:/absolute"),  # there would be an empty part in its LFN
        ("rucio", "lhc:a/../b"),
        ("rucio", "lhc:a\n"),
        ("two", "mc:plain"),  # its LFN by the second rule is what the first reads as another name
        ("parts", "/grid/12/x"),
        ("one file each", "data:sub/1.root"),
    ],
)
def test_a_name_without_an_lfn_is_not_of_this_site(which: str, name: str) -> None:
    lfn = NameRules(RULES[which]).lfn_of(name)
    assert lfn is None or which == "two"


@pytest.mark.parametrize("which", RULES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_there_and_back_is_the_same_name(which: str, data: st.DataObject) -> None:
    rules = NameRules(RULES[which])
    name = data.draw(NAMES)
    lfn = rules.lfn_of(name)
    if lfn is not None:
        assert Lfn.parse(lfn) == lfn
        assert rules.name_of(lfn) == name
        assert rules.lfn_of(name) == lfn


@pytest.mark.parametrize("which", RULES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_find_tells_of_each_file_below_its_base_once_and_of_no_other(
    which: str, data: st.DataObject
) -> None:
    names = data.draw(st.lists(NAMES, max_size=8, unique=True))
    rules = NameRules(RULES[which])
    here = [lfn for lfn in map(rules.lfn_of, names) if lfn is not None]
    bases = ["/", *{str(parent) for lfn in here for parent in _upwards(lfn)}, "/elsewhere"]
    base = Lfn(data.draw(st.sampled_from(bases)))
    pattern = data.draw(st.sampled_from(["*", "*a", "b*", "*.root", "[ab]*"]))
    driver = _ListDriver(names)
    found = [one.entry.lfn for one in Mapped(driver, RULES[which], {}).find(base, pattern)]
    wanted = [lfn for lfn in here if lfn.is_below(base) and fnmatchcase(lfn.name, pattern)]
    assert sorted(found) == sorted(wanted)


def test_a_find_asks_only_for_what_can_be_below() -> None:
    rules = NameRules(RULES["under a directory"])
    assert [tuple(area) for area in rules.areas(Lfn("/rucio/lhc/run1"), "*.root")] == [("lhc:run1", "*.root")]
    assert [tuple(area) for area in rules.areas(Lfn("/rucio/lhc"), "*")] == [("lhc:", "*")]
    assert [tuple(area) for area in rules.areas(Lfn("/rucio"), "f*")] == [("", "f*")]
    assert rules.areas(Lfn("/other"), "*") == []
    assert [area.base for area in NameRules(RULES["nested"]).areas(Lfn("/first/x"), "*")] == ["/vo/a/x"]
    assert [area.base for area in NameRules(RULES["nested"]).areas(Lfn("/"), "*")] == ["/vo"]
    assert [tuple(area) for area in NameRules(RULES["parts"]).areas(Lfn("/esd"), "x")] == [("/grid", "x")]


def test_elements_are_renamed_and_unknown_names_never_asked() -> None:
    driver = _ListDriver(["lhc:f"])
    mapped = Mapped(driver, RULES["under a directory"], {"FAR": "FAR-DISK"})
    lfn, outside = Lfn("/rucio/lhc/f"), Lfn("/elsewhere/f")
    answer = mapped.resolve([lfn, outside, Lfn("/rucio/lhc/g")])
    assert [(one.lfn, one.se) for one in answer.ok[lfn].replicas] == [(lfn, "FAR-DISK"), (lfn, "NEAR")]
    assert answer.ok[lfn].entry.lfn == lfn
    assert set(answer.failed) == {outside, "/rucio/lhc/g"}
    assert "/rucio/lhc/g" in str(answer.failed["/rucio/lhc/g"])
    assert driver.asked == ["lhc:f", "lhc:g"]
    with pytest.raises(Unsupported, match="register_replicas = false"):
        mapped.register_replicas([CopyMade(lfn, "FAR-DISK", None, 1, None)])


@pytest.mark.parametrize(
    ("upstream", "lfn", "fault"),
    [
        ("{a}{b...}", "/{a}/{b...}", "side by side"),
        ("{a}:{b", "/{a}", "brace"),
        ("{a}:{a}", "/{a}", "twice"),
        ("{a...}:{b}", "/{b}/{a...}", "not at its end"),
        ("{a}:{b}", "/{a}", "different placeholders"),
        ("{a}:{b...}", "/{a}/{b}", "ends in"),
        ("{a}", "{a}", "starts with '/'"),
    ],
)
def test_a_rule_that_cannot_work_is_a_fault_of_the_settings(upstream: str, lfn: str, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        MappingRule(upstream=upstream, lfn=lfn)


def _upwards(lfn: Lfn) -> Iterator[Lfn]:
    while lfn != "/":
        yield lfn
        lfn = lfn.parent


class _ListDriver:
    """A catalogue of its own names, held in a list; a base holds names as `Area` says."""

    name = "far"

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.asked: list[str] = []

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        below = base if not base or base.endswith((":", "/")) else f"{base}/"
        for name in self._names:
            last = name.rpartition("/")[2] if "/" in name else name.partition(":")[2] or name
            if (name == base or name.startswith(below)) and fnmatchcase(last, pattern):
                yield _located(name)

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        self.asked = [str(name) for name in lfns]
        return BulkResult(
            {name: _located(name) for name in lfns if name in self._names},
            {name: NoSuchEntry(f"find {name}") for name in lfns if name not in self._names},
        )


def _located(name: str) -> Located:
    entry = Entry(Lfn(name), "file", 1, None, None, "root", "root", 0o644, 0.0, 0.0)
    replicas = [Replica(Lfn(name), se, None, ReplicaState.AVAILABLE, None, "far") for se in ("NEAR", "FAR")]
    return Located(entry, tuple(replicas))
