import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vse.errors import BadQuery
from vse.model import DatasetQuery, FindQuery, Mode, NamedQuery, OfficialQuery, Runs
from vse.model.query import dataset_name
from vse.model.runs import parse_runs


@pytest.mark.parametrize(
    ("text", "base", "pattern", "tree"),
    [
        ("Find;BasePath=/lhc/data;FileName=*.root", "/lhc/data", "*.root", ""),
        ("find;basepath=/lhc//data/;filename=AliAOD.root;", "/lhc/data", "AliAOD.root", ""),
        (" Find ; BasePath = /a b ; FileName = *.root ; Tree = /aodTree ", "/a b", "*.root", "/aodTree"),
        ("Find;BasePath=/lhc", "/lhc", "*", ""),
        ("/lhc/data/*.root", "/lhc/data", "*.root", ""),
        ("/lhc/data", "/lhc/data", "*", ""),
        ("/*.root", "/", "*.root", ""),
        ("/lhc/odd;name/*.root", "/lhc/odd;name", "*.root", ""),
    ],
)
def test_find(text, base, pattern, tree):
    query = DatasetQuery.parse(text)
    assert isinstance(query, FindQuery)
    assert (query.base, query.pattern, query.tree, query.mode) == (base, pattern, tree, None)
    assert DatasetQuery.parse(str(query)) == query


@pytest.mark.parametrize("text", ["root_archive.zip#AliESDs.root", "root_archive.zip;Anchor=AliESDs.root"])
def test_a_member_of_archives(text):
    query = DatasetQuery.parse(f"Find;BasePath=/alice;FileName={text}")
    assert isinstance(query, FindQuery)
    assert (query.pattern, query.anchor) == ("root_archive.zip", "AliESDs.root")
    assert DatasetQuery.parse(str(query)) == query


def test_official_data():
    """Seed 002 §4.3.6.1, with the lists and ranges of runs that its dataset manager knew."""
    query = DatasetQuery.parse(
        "data ; PERIOD=LHC10h;Variant = AOD086; Run=139505-139510, 139437;Pass=2;Mode=Remote ;"
    )
    assert isinstance(query, OfficialQuery)
    assert (query.kind, query.period, query.variant, query.passing) == ("Data", "LHC10h", "AOD086", "pass2")
    assert query.runs is not None
    assert list(query.runs) == [139437, *range(139505, 139511)]
    assert query.mode is Mode.REMOTE
    assert str(query) == ("Data;Period=LHC10h;Variant=AOD086;Run=139437,139505-139510;Pass=pass2;Mode=remote")
    assert DatasetQuery.parse(str(query)) == query


def test_official_simulation():
    query = DatasetQuery.parse("Sim;Period=LHC10d1;Variant=ESDs;Run=117222;")
    assert query == OfficialQuery(kind="Sim", period="LHC10d1", variant="ESDs", runs=parse_runs("117222"))


@pytest.mark.parametrize(
    ("text", "name", "version", "mode"),
    [
        ("muons", "muons", None, None),
        (" muons@12 ", "muons", 12, None),
        ("group/muons-2026@1;Mode=local;Tree=t", "group/muons-2026", 1, Mode.LOCAL),
    ],
)
def test_a_dataset_by_name(text, name, version, mode):
    query = DatasetQuery.parse(text)
    assert isinstance(query, NamedQuery)
    assert (query.name, query.version, query.mode) == (name, version, mode)
    assert DatasetQuery.parse(str(query)) == query


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "starts with 'Find'"),
        ("Find", 5, "BasePath is missing"),
        ("Find;FileName=*.root", 21, "BasePath is missing"),
        ("Find;BasePath=/a;File=x", 18, "unknown key 'File'"),
        ("Find;BasePath=/a; Run=1", 19, "unknown key 'Run'"),
        ("Find;BasePath=/a;FileName", 18, "has no '='"),
        ("Find;BasePath=a", 15, "does not start with '/'"),
        ("Find;BasePath= /a/../b", 16, "'..' is not allowed"),
        ("Find;BasePath=/a;BasePath=/b", 18, "given twice"),
        ("Find;BasePath=/a;FileName=", 27, "FileName is empty"),
        ("Find;BasePath=/a;FileName=b/*.root", 28, "cannot hold '/'"),
        ("Find;BasePath=/a;FileName=b.zip#", 33, "no member"),
        ("Find;BasePath=/a;Mode=near", 23, "Mode is local, remote or cache"),
        ("/lhc/*/data", 6, "last part"),
        ("Data;Period=LHC13d", 19, "Variant is missing"),
        ("Data;Period=LHC13d;Variant=AOD1;Run=1", 38, "Pass is missing"),
        ("Data;Period=LHC13d;Variant=AOD1;Run=12,1x-3;Pass=1", 40, "'1x-3' is no run"),
        ("Data;Period=LHC13d;Variant=AOD1;Run=1,,2;Pass=1", 39, "nothing"),
        ("Sim;Period=LHC13d;Variant=A/B", 28, "cannot hold '/'"),
        ("Sim;Period=..;Variant=AOD1", 12, "cannot hold '.'"),
        ("Sim;Period=LHC13d;Variant=AOD1;Pass=1", 32, "unknown key 'Pass'"),
        ("Fnd;BasePath=/a", 1, "not 'Fnd'"),
        ("muons@two", 7, "a version is a number"),
        ("muons@0", 7, "a version is a number"),
        ("mu ons", 1, "not 'mu ons'"),
    ],
)
def test_errors_point_at_the_column(text, column, reason):
    with pytest.raises(BadQuery) as caught:
        DatasetQuery.parse(text)
    lines = str(caught.value).splitlines()
    assert f"column {column}:" in lines[0]
    assert reason in lines[0]
    shown, caret = lines[1:3]
    assert caret.strip() == "^"
    if column <= len(text):
        assert shown[caret.index("^")] == text[column - 1]
    kind = text.partition(";")[0]
    assert lines[3].startswith(f"Write it as '{kind if kind in ('Data', 'Sim') else 'Find'};")


def test_the_caret_fits_a_line_whatever_the_length():
    text = "Find;BasePath=/" + "a" * 500 + ";File=\n" + "x" * 500
    with pytest.raises(BadQuery) as caught:
        DatasetQuery.parse(text)
    _, shown, caret, _ = str(caught.value).splitlines()
    assert len(shown) < 110
    assert shown[caret.index("^") :].startswith("File=?x")


@pytest.mark.parametrize(
    "name", ["", "/lhc", "a b", "muons@2", "find;x=1", "data;", "muons;Mode=local", "a//b"]
)
def test_what_is_no_name_of_a_dataset(name):
    with pytest.raises(BadQuery):
        dataset_name(name)


@example("/ /")
@example("/ *")
@example("/a#b*")
@example("Find;BasePath=/a /;Tree=x")
@given(st.text(alphabet="FindDataSim;BasePath=/aFileNameRun-,1Pas@*. ", max_size=60))
def test_nothing_but_bad_query_is_ever_raised(text):
    try:
        query = DatasetQuery.parse(text)
    except BadQuery:
        return
    assert DatasetQuery.parse(str(query)) == query


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=20))
def test_runs_are_a_set(ranges):
    runs = Runs.of(ranges)
    wanted = {run for first, last in ranges for run in range(min(first, last), max(first, last) + 1)}
    assert list(runs) == sorted(wanted)
    assert len(runs) == len(wanted)
    assert all((run in runs) == (run in wanted) for run in range(302))
    if ranges:
        assert parse_runs(str(runs)) == runs
