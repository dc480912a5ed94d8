import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.errors import BadQuery
from vse.model import DatasetQuery


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
    ],
)
def test_parse(text, base, pattern, tree):
    query = DatasetQuery.parse(text)
    assert (query.base, query.pattern, query.tree) == (base, pattern, tree)
    assert DatasetQuery.parse(str(query)) == query


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "starts with 'Find'"),
        ("Data;Period=LHC13d", 1, "starts with 'Find', not 'Data'"),
        ("Find", 5, "BasePath is missing"),
        ("Find;FileName=*.root", 21, "BasePath is missing"),
        ("Find;BasePath=/a;File=x", 18, "unknown key 'File'"),
        ("Find;BasePath=/a;FileName", 18, "has no '='"),
        ("Find;BasePath=a", 15, "does not start with '/'"),
        ("Find;BasePath=/a/../b", 15, "'..' is not allowed"),
        ("Find;BasePath=/a;BasePath=/b", 18, "given twice"),
        ("Find;BasePath=/a;FileName=", 27, "FileName is empty"),
        ("Find;BasePath=/a;FileName=b/*.root", 27, "cannot hold '/'"),
        ("/lhc/*/data", 1, "last part"),
    ],
)
def test_errors_point_at_the_column(text, column, reason):
    with pytest.raises(BadQuery) as caught:
        DatasetQuery.parse(text)
    assert f"column {column}:" in str(caught.value)
    assert reason in str(caught.value)


@given(st.text(alphabet="Find;BasePath=/aFileNameTree*. ", max_size=60))
def test_nothing_but_bad_query_is_ever_raised(text):
    try:
        query = DatasetQuery.parse(text)
    except BadQuery:
        return
    assert query.base.startswith("/")
