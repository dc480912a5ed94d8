"""Tags: schemas, inheritance, and finds that answer as plain Python over the whole tree does."""

from __future__ import annotations

import tracemalloc
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vse.catalogue import metadata_find
from vse.catalogue.metadata import Metadata
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.errors import AlreadyExists, BadQuery, BadRequest, NoSuchEntry, NotEmpty
from vse.model import Contents, Lfn, NewFile
from vse.model.expression import evaluate
from vse.model.expression_grammar import parse
from vse.model.expression_types import check
from vse.model.tags import TagDefinition, TagType

TYPES = {
    "run": TagType.INTEGER,
    "luminosity": TagType.NUMBER,
    "pass": TagType.TEXT,
    "taken": TagType.TIME,
    "good": TagType.BOOLEAN,
}


def definitions(**types):
    return [TagDefinition(name, TagType(kind), Lfn("/")) for name, kind in types.items()]


on_both = pytest.mark.parametrize(
    "names", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def names(request, clock):
    fixture = {"sqlite": "database"}.get(getattr(request, "param", "sqlite"), "postgresql")
    return SqlCatalogue(request.getfixturevalue(fixture), clock)


@pytest.fixture
def tags(names):
    names.register([NewFile(Lfn(f"/lhc/{d}/{f}.root"), f) for d in ("a", "a-b", "b/c") for f in range(3)])
    metadata = Metadata(names)
    metadata.define(Lfn("/lhc"), definitions(**TYPES))
    return metadata


def put(metadata, name, **values):
    metadata.set([Lfn(name)], values).one(name)


def shown(metadata, name):
    return {tag.name: tag.value for tag in metadata.show([Lfn(name)]).one(name)}


def found(metadata, condition, base="/lhc", pattern="*"):
    return [
        located.entry.lfn.removeprefix("/lhc/") for located in metadata.find(Lfn(base), pattern, condition)
    ]


# -- values -------------------------------------------------------------------------------------------------


@on_both
def test_a_value_is_that_of_the_nearest_that_has_one(tags):
    put(tags, "/lhc", run=1, luminosity=0.5)
    put(tags, "/lhc/a", run=2)
    put(tags, "/lhc/a/1.root", run=3)
    assert shown(tags, "/lhc/a/1.root") == {"run": 3, "luminosity": 0.5}
    assert shown(tags, "/lhc/a/2.root") == {"run": 2, "luminosity": 0.5}
    assert shown(tags, "/lhc/a-b/2.root") == {"run": 1, "luminosity": 0.5}
    origins = {tag.name: tag.origin for tag in tags.show([Lfn("/lhc/a/1.root")]).one("/lhc/a/1.root")}
    assert origins == {"run": "/lhc/a/1.root", "luminosity": "/lhc"}
    tags.unset([Lfn("/lhc/a/1.root")], ["run"]).one("/lhc/a/1.root")
    assert shown(tags, "/lhc/a/1.root")["run"] == 2
    assert isinstance(tags.unset([Lfn("/lhc/a/1.root")], ["run"]).failed["/lhc/a/1.root"], NoSuchEntry)


@on_both
def test_texts_are_read_as_the_type_asks(tags):
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    put(tags, "/lhc/a", run="195682", luminosity="1e-3", taken="2026-01-31T13:00+01:00", good="no")
    expected = {"run": 195682, "luminosity": 0.001, "taken": noon.timestamp(), "good": False}
    assert shown(tags, "/lhc/a") == expected
    put(tags, "/lhc/a", taken=noon, good=True, **{"pass": " é ' %"})
    assert shown(tags, "/lhc/a") == {**expected, "good": True, "pass": " é ' %"}
    assert [tag.shown for tag in tags.show([Lfn("/lhc/a")]).one("/lhc/a")] == [
        "true", "0.001", " é ' %", "195682", "2026-01-31T12:00:00Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"run": "x"}, "'x' is not a 64-bit integer"),
        ({"run": 1.0}, "1.0 is not a 64-bit integer"),
        ({"run": True}, "True is not a 64-bit integer"),
        ({"run": 2**63}, "is not a 64-bit integer"),
        ({"luminosity": "nan"}, "'nan' is not a number"),
        ({"luminosity": "1e999"}, "is not a number"),
        ({"taken": "yesterday"}, "'yesterday' is not a time"),
        ({"good": "maybe"}, "'maybe' is not a boolean"),
        ({"pass": 5}, "5 is not a text"),
        ({"pass": "x" * 1025}, "is not a text"),
        ({"pass": "a\x00b"}, "is not a text"),
        ({"pass": "\ud800"}, "is not a text"),
        ({"rum": 5}, "Did you mean 'run'?"),
        ({"xyzzy": 5}, "good, luminosity, pass, run, taken"),
        ({"run": 5, "xyzzy": 5}, "no schema at or above it defines 'xyzzy'"),
    ],
)
def test_what_no_schema_allows_is_refused_whole(tags, values, words):
    result = tags.set([Lfn("/lhc/a"), Lfn("/lhc/nowhere"), Lfn("/lhc/a/1.root")], values)
    assert not result.ok
    assert isinstance(result.failed["/lhc/a"], BadRequest)
    assert words in str(result.failed["/lhc/a"])
    assert isinstance(result.failed["/lhc/nowhere"], NoSuchEntry)
    assert shown(tags, "/lhc/a") == shown(tags, "/lhc/a/1.root") == {}


@on_both
def test_tags_go_with_their_object(tags, names):
    put(tags, "/lhc/a", run=1)
    put(tags, "/lhc/a/1.root", run=2)
    names.rename(Lfn("/lhc/a"), Lfn("/lhc/z"))
    assert found(tags, "run = 2") == ["z/1.root"]
    names.rename(Lfn("/lhc/z/1.root"), Lfn("/lhc/b/1.root"))
    assert found(tags, "run > 0") == ["b/1.root", "z/0.root", "z/2.root"]
    names.remove([Lfn("/lhc/b/1.root"), Lfn("/lhc/z/0.root"), Lfn("/lhc/z/2.root"), Lfn("/lhc/z")])
    names.register([NewFile(Lfn("/lhc/new/x"), 1)])
    assert found(tags, "run exists") == []


# -- schemas ------------------------------------------------------------------------------------------------


def test_schemas_are_inherited_and_end_where_they_end(tags):
    tags.define(Lfn("/lhc/b"), [TagDefinition("beam", TagType.TEXT, Lfn("/lhc/b"), "what collided")])
    assert [(one.name, one.directory, one.note) for one in tags.schema(Lfn("/lhc/b/c"))] == [
        ("beam", "/lhc/b", "what collided"),
        *((name, "/lhc", "") for name in sorted(TYPES)),
    ]
    put(tags, "/lhc/b/c/1.root", beam="pp")
    with pytest.raises(BadRequest, match="'beam'"):
        put(tags, "/lhc/a", beam="pp")
    assert found(tags, 'beam = "pp"') == ["b/c/1.root"]
    with pytest.raises(BadQuery, match="no field or tag is called 'beam'"):
        found(tags, 'beam = "pp"', "/lhc/a")
    with pytest.raises(NoSuchEntry):
        tags.schema(Lfn("/nowhere"))
    with pytest.raises(BadRequest, match="is a file"):
        tags.define(Lfn("/lhc/a/1.root"), definitions(x="text"))


def test_a_tag_has_one_type_all_the_way_down(tags):
    for directory in ("/lhc/a", "/"):
        with pytest.raises(AlreadyExists, match="it is integer in /lhc"):
            tags.define(Lfn(directory), definitions(run="text"))
    tags.define(Lfn("/lhc/a"), definitions(run="integer"))
    with pytest.raises(AlreadyExists, match="/lhc/a"):
        tags.define(Lfn("/lhc"), definitions(run="text"))


@on_both
def test_a_type_changes_only_where_nothing_has_a_value(tags):
    put(tags, "/lhc/b/c/1.root", run=1)
    with pytest.raises(NotEmpty, match="/lhc/b/c"):
        tags.define(Lfn("/lhc"), definitions(run="text", other="text"))
    assert "other" not in {one.name for one in tags.schema(Lfn("/lhc"))}
    with pytest.raises(NotEmpty, match="/lhc/b/c"):
        tags.undefine(Lfn("/lhc"), ["run"])
    with pytest.raises(NoSuchEntry, match="defined by /lhc"):
        tags.undefine(Lfn("/lhc/b"), ["run"])
    tags.unset([Lfn("/lhc/b/c/1.root")], ["run"])
    tags.define(Lfn("/lhc"), definitions(run="text"))
    put(tags, "/lhc/b", run="one")
    tags.unset([Lfn("/lhc/b")], ["run"])
    tags.undefine(Lfn("/lhc"), ["run"])
    with pytest.raises(BadQuery, match="'run'"):
        found(tags, "run = 1")


@pytest.mark.parametrize("name", ["", "1a", "a b", "and", "Exists", "size", "a" * 65, "a=b", "é", "a-b"])
def test_names_that_no_condition_could_speak_of_are_refused(tags, name):
    with pytest.raises(BadRequest):
        tags.define(Lfn("/lhc"), [TagDefinition(name, TagType.TEXT, Lfn("/lhc"))])


@on_both
def test_two_schemas_of_different_types_side_by_side(tags, names):
    tags.define(Lfn("/lhc/a"), definitions(x="text"))
    tags.define(Lfn("/lhc/b"), definitions(x="integer"))
    put(tags, "/lhc/a", x="1")
    put(tags, "/lhc/b", x=1)
    with pytest.raises(BadQuery, match=r"text in /lhc/a, and integer in /lhc/b.*below one"):
        found(tags, "x = 1")
    assert found(tags, "run is null", pattern="1*") == ["a/1.root", "a-b/1.root", "b/c/1.root"]
    assert len(found(tags, "x = 1", "/lhc/b")) == 3
    # A value that was carried to where its tag has another type is not seen.
    names.rename(Lfn("/lhc/a"), Lfn("/lhc/b/a"))
    assert {lfn.rpartition("/")[0] for lfn in found(tags, "x exists", "/lhc/b/c")} == {"b/c"}


# -- finds --------------------------------------------------------------------------------------------------


@on_both
def test_fields_are_those_of_the_files(names, tags, clock):
    guid = uuid.uuid4()
    clock.now_s += 100
    names.register(
        [
            NewFile(Lfn("/lhc/f"), 2**31, guid=guid.bytes, owner="eve", group="g", modified_s=5.5),
            NewFile(Lfn("/lhc/t"), 1, se="A", contents=Contents("events", 2304)),
            NewFile(Lfn("/lhc/u"), 1, se="B", contents=Contents("", 0)),
        ]
    )
    names.add_replicas([NewReplica(Lfn("/lhc/t"), "B")])
    for condition, lfns in {
        "size >= 2 GiB": ["f"],
        "size > 0.5 B and size < 1.5 B": ["t", "u", "a/1.root", "a-b/1.root", "b/c/1.root"],
        f'guid = "{str(guid).upper()}"': ["f"],
        'owner = "eve"': ["f"],
        'owner != "eve" and entries > 2303.5': ["t"],
        'owner like "e%"': ["f"],
        'group in ("g", "nobody")': ["f"],
        "modified < 1970-01-02": ["f"],
        "created >= 2023-11-14T22:15:00Z and name < 'g'": ["f"],
        "entries = 2304": ["t"],
        "entries < 5": ["u"],
        'tree = "events"': ["t"],
        'tree is null and se = "B"': ["u"],
        'se = "B"': ["t", "u"],
        'se in ("A", "NOWHERE")': ["t"],
        'se = "B" and se != "A"': ["u"],
        'not se = "A" and se is not null': ["u"],
        'se like "%A%"': ["t"],
        'path = "/lhc/f"': ["f"],
        'path like "%/c/2%"': ["b/c/2.root"],
        'name = "2.root" and path glob "*/a*"': ["a/2.root", "a-b/2.root"],
    }.items():
        assert found(tags, condition) == lfns, condition


def test_a_base_that_is_a_file_or_not_there(tags):
    put(tags, "/lhc/a", run=1)
    assert found(tags, "run = 1 and size = 1", "/lhc/a/1.root") == ["a/1.root"]
    assert found(tags, "run = 1 and size = 2", "/lhc/a/1.root") == []
    assert found(tags, "run = 1", "/lhc/a/1.root", "*.txt") == []
    assert found(tags, "run = 1", "/lhc/nowhere") == []
    assert len(found(tags, "run = 1", "/")) == 3
    assert [one.entry.lfn for one in tags.among(tags.find(Lfn("/"), "*", "size >= 0"), "run = 1")] == [
        f"/lhc/a/{name}.root" for name in range(3)
    ]


@contextmanager
def small_pages(directories, files):
    before = metadata_find.PAGE_DIRECTORIES, metadata_find.PAGE_FILES, metadata_find._MOST_ROOTS
    metadata_find.PAGE_DIRECTORIES, metadata_find.PAGE_FILES = directories, files
    metadata_find._MOST_ROOTS = directories + 1
    yield
    metadata_find.PAGE_DIRECTORIES, metadata_find.PAGE_FILES, metadata_find._MOST_ROOTS = before


_VALUES = {
    "run": st.integers(0, 3),
    "luminosity": st.sampled_from([0.0, 0.5, 1.5]),
    "pass": st.sampled_from(["muon", "mu", "Ä"]),
    "taken": st.sampled_from([0.0, 86400.0]),
    "good": st.booleans(),
}
_tagging = st.fixed_dictionaries({}, optional=_VALUES)
_DIRECTORIES = ["/", "/a", "/a b", "/a-b", "/a/x", "/a/x/y", "/a0", "/a/x!", "/b", "/b/x"]
_ATOMS = """
run = 1|run >= 2|run in (0, 3)|run != 2|run between 1 and 2|pass = "muon"|pass like "mu%"|pass > "mu"
good|good = false|taken < 1970-01-02|luminosity > 0.5|run is null|pass exists|size > 3|size != 2|size < 2.5
se = "A"|se is null|se != "B"|se in ("A", "B")|name glob "f[01]"|name >= "f1"|name in ("f0", "f2")|tree = "t"
path like "/a%"|entries > 5|entries is null|owner = "root"|owner != "eve"|modified > 2000-01-01|guid is null
"""
_atoms = st.sampled_from(_ATOMS.strip().replace("\n", "|").split("|"))
CONDITIONS = st.recursive(
    _atoms,
    lambda parts: (
        st.builds("({}) and {}".format, parts, _atoms)
        | st.builds("({}) or ({})".format, parts, parts)
        | st.builds("not ({})".format, parts)
    ),
    max_leaves=5,
)


@st.composite
def trees(draw):
    """(files, replicas, tags by name) of a random tree."""
    files, copies, tagged = [], [], {}
    for directory in draw(st.lists(st.sampled_from(_DIRECTORIES), min_size=1, unique=True)):
        for number in range(draw(st.integers(0, 3))):
            lfn = Lfn(f"{directory.rstrip('/')}/f{number}")
            contents = draw(st.sampled_from([None, Contents("t", 7), Contents("", 0)]))
            se = draw(st.sampled_from([None, "A", "B"]))
            owner = draw(st.sampled_from(["root", "eve"]))
            files.append(NewFile(lfn, draw(st.integers(0, 6)), se=se, contents=contents, owner=owner))
            if se == "A" and draw(st.booleans()):
                copies.append(NewReplica(lfn, "B"))
            if draw(st.integers(0, 3)) == 0:
                tagged[lfn] = draw(_tagging)
        tagged[Lfn(directory)] = draw(_tagging)
    return files, copies, tagged


def by_plain_python(names, tagged, base, condition):
    """The answer by reading everything and looking upwards from each file."""
    expression = check(parse(condition), TYPES, condition)
    lfns = []
    for located in names.find(base, "*"):
        entry, contents = located.entry, located.contents
        values = {
            "size": entry.size_bytes,
            "name": entry.lfn.name,
            "path": entry.lfn,
            "owner": entry.owner,
            "created": entry.created_s,
            "modified": entry.modified_s,
            "se": frozenset(copy.se for copy in located.replicas),
        }
        if contents is not None:
            values["entries"] = contents.entries
            values["tree"] = contents.tree or None
        name = entry.lfn
        while True:
            values = {**tagged.get(name, {}), **values}
            if name == "/":
                break
            name = name.parent
        if evaluate(expression, values.get) is True:
            lfns.append(entry.lfn)
    return lfns


def check_finds(names, tree, conditions, base, pages):
    files, copies, tagged = tree
    metadata = Metadata(names)
    names.make_directories([lfn for lfn in tagged if lfn not in {file.lfn for file in files}], "o", "g")
    assert not names.register(files).failed
    assert not names.add_replicas(copies).failed
    metadata.define(Lfn("/"), definitions(**TYPES))
    for lfn, values in tagged.items():
        assert not metadata.set([lfn], values).failed
    for condition in conditions:
        with small_pages(*pages):
            answer = [located.entry.lfn for located in metadata.find(base, "*", condition)]
        assert answer == by_plain_python(names, tagged, base, condition), condition
        assert [one.entry.lfn for one in metadata.among(names.find(base, "*"), condition)] == answer


_trial = {
    "tree": trees(),
    "conditions": st.lists(CONDITIONS, min_size=5, max_size=8),
    "base": st.sampled_from([Lfn("/"), Lfn("/a"), Lfn("/b/x")]),
    "pages": st.sampled_from([(1, 1), (2, 3), (1024, 4096)]),
}
_quietly = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def _emptied(names, tables=("tags", "tag_schemas", "contents", "replicas", "files", "directories")):
    with names.database.write() as connection:
        for table in tables:
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
    return SqlCatalogue(names.database, names.clock)


@pytest.mark.slow
@settings(max_examples=40, **_quietly)
@given(**_trial)
def test_a_find_answers_as_plain_python_does(catalogue, tree, conditions, base, pages):
    check_finds(_emptied(catalogue), tree, conditions, base, pages)


@pytest.mark.slow
@settings(max_examples=25, **_quietly)
@given(**_trial)
def test_a_find_answers_as_plain_python_does_on_postgresql(postgresql, clock, tree, conditions, base, pages):
    check_finds(_emptied(SqlCatalogue(postgresql, clock)), tree, conditions, base, pages)


@pytest.mark.slow
def test_a_find_takes_no_more_memory_for_more_files(catalogue):
    catalogue.register([NewFile(Lfn(f"/{d:03d}/{f}"), f) for d in range(600) for f in range(50)])
    metadata = Metadata(catalogue)
    metadata.define(Lfn("/"), definitions(run="integer"))
    metadata.set([Lfn(f"/{d:03d}") for d in range(600)], {"run": 1})
    metadata.set([Lfn(f"/{d:03d}/7") for d in range(600)], {"run": 2})
    list(metadata.find(Lfn("/001"), "*", "run = 1"))
    for base, count in (("/", 29_400), ("/002", 49)):
        tracemalloc.start()
        assert sum(1 for _ in metadata.find(Lfn(base), "*", "run = 1 and size >= 0")) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8_000_000


def test_a_find_reads_no_file_of_a_directory_that_cannot_be_meant(tags, names, monkeypatch):
    put(tags, "/lhc", run=1)
    put(tags, "/lhc/a-b", run=2)
    read = []
    located = names.rows.located
    monkeypatch.setattr(names.rows, "located", lambda rows: located(read.append(len(rows)) or rows))
    assert len(found(tags, "run != 1")) == 3
    assert len(found(tags, "run = 2 and size >= 0")) == 3
    assert read == [3, 3]
