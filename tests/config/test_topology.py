"""What a name stands for at a site: the cases that DIRAC tests its own resolution with."""

from __future__ import annotations

import pytest

from vse.config.settings import Settings
from vse.config.topology import elements_elsewhere, elements_for, find_element, group_members, groups_of
from vse.errors import BadSettings, NoSuchElement

DISK = {"File": {"Path": "/x"}}
NAMES = ("LOGS", "A-BUF", "A-DST", "B-BUF", "B-DST", "D-DST")


def settings(**changes: object) -> Settings:
    tree: dict[str, object] = {
        "site": {"name": "GRID.A.aa"},
        "StorageElements": dict.fromkeys(NAMES, DISK) | {"A-LOGS": {"Alias": "LOGS"}},
        "StorageElementGroups": {
            "BUF": "A-BUF, B-BUF",
            "DST": ["A-DST", "B-DST"],
            "ALL": ["BUF", "DST", "BUF"],
        },
        "Sites": {
            "GRID.A.aa": {
                "SE": ["A-BUF", "A-DST"],
                "AssociatedSEs": {"LOGS": "A-BUF", "LocalLogs": "A-LOGS", "DST": "A-DST"},
            },
            "GRID.B.bb": {"SE": "B-BUF, B-DST", "AssociatedSEs": {"LocalLogs": "B-BUF, A-BUF"}},
            "GRID.P.pl": {"SE": []},
            "somewhere": {"Country": "de"},
        },
        "Countries": {
            "pl": {"AssignedTo": "de"},
            "de": {"AssociatedSEs": {"DST": "D-DST", "LocalLogs": "D-DST"}},
            "x": {"AssignedTo": "y"},
            "y": {"AssignedTo": "x"},
        },
    }
    return Settings.model_validate(tree | changes)


@pytest.mark.parametrize(
    ("name", "site", "only_local", "found"),
    [
        ("", "GRID.A.aa", False, ()),
        # an element is itself, whatever a site associates with its name
        ("LOGS", "GRID.A.aa", False, ("LOGS",)),
        ("LOGS", "GRID.A.aa", True, ("LOGS",)),
        ("A-LOGS", "nowhere", True, ("A-LOGS",)),
        # what the site associates, those at the site first; `only_local` is of groups alone
        ("LocalLogs", "GRID.A.aa", False, ("A-LOGS",)),
        ("LocalLogs", "GRID.A.aa", True, ("A-LOGS",)),
        ("LocalLogs", "GRID.B.bb", True, ("B-BUF", "A-BUF")),
        ("DST", "GRID.A.aa", False, ("A-DST",)),
        # the group, those at the site first
        ("DST", "GRID.B.bb", False, ("B-DST", "A-DST")),
        ("BUF", "GRID.A.aa", False, ("A-BUF", "B-BUF")),
        ("BUF", "nowhere", False, ("A-BUF", "B-BUF")),
        ("ALL", "GRID.B.bb", False, ("B-BUF", "B-DST", "A-BUF", "A-DST")),
        # only those at the site, else what the country associates, or the one that it is assigned to
        ("DST", "GRID.B.bb", True, ("B-DST",)),
        ("DST", "GRID.P.pl", True, ("D-DST",)),
        ("DST", "GRID.Q.de", True, ("D-DST",)),
        ("DST", "somewhere", True, ("D-DST",)),
        # our own site where none is named
        ("BUF", "", True, ("A-BUF",)),
    ],
)
def test_what_a_name_stands_for(name, site, only_local, found):
    assert elements_for(settings(), name, site, only_local=only_local) == found


@pytest.mark.parametrize(
    ("name", "site", "only_local", "words"),
    [
        ("LocalLogs", "GRID.P.pl", True, "'LocalLogs'"),
        ("DTS", "GRID.A.aa", False, "Did you mean DST?"),
        ("BUF", "GRID.P.pl", True, "pl -> de associates none with it. Add AssociatedSEs to [Countries.de]"),
        ("BUF", "GRID.Q.fr", True, "fr associates none"),
    ],
)
def test_a_name_that_stands_for_nothing(name, site, only_local, words):
    with pytest.raises(NoSuchElement) as caught:
        elements_for(settings(), name, site, only_local=only_local)
    assert words in str(caught.value)


def test_circles_are_told():
    with pytest.raises(BadSettings, match="x -> y -> x"):
        elements_for(settings(), "DST", "GRID.X.x", only_local=True)
    round_about = settings(StorageElementGroups={"G": ["H"], "H": ["A-DST", "G"]})
    with pytest.raises(BadSettings, match="G -> H -> G"):
        elements_for(round_about, "G")
    assert groups_of(round_about, "A-DST") == ["G", "H"]


def test_a_group_that_names_nothing_says_which():
    with pytest.raises(NoSuchElement, match=r"'B-BFU' \(in the group G\)"):
        group_members(settings(StorageElementGroups={"G": ["A-DST", "B-BFU"]}), "G")


def test_groups_of_an_element():
    assert groups_of(settings(), "A-BUF") == ["BUF", "ALL"]
    assert groups_of(settings(), "D-DST") == []


def test_an_element_by_its_other_name():
    assert find_element(settings(), "A-LOGS").name == "LOGS"
    with pytest.raises(NoSuchElement, match="Did you mean LOGS"):
        find_element(settings(), "LOGGS")


def test_what_stands_elsewhere():
    assert elements_elsewhere(settings()) == {"B-BUF", "B-DST"}
    assert elements_elsewhere(settings(site={"name": "GRID.B.bb"})) == {"A-BUF", "A-DST"}
    assert elements_elsewhere(settings(Sites={})) == set()


def test_a_site_has_what_is_made_from_its_base_and_the_other_names():
    read = Settings.model_validate(
        {
            "StorageElementBases": {"EOS": DISK},
            "StorageElements": {
                "DST": {"BaseSE": "EOS"},
                "RAW": {"BaseSE": "EOS"},
                "OLD": {"Alias": "DST"},
                "X": DISK,
            },
            "Sites": {"S": {"SE": "EOS"}},
            "StorageElementGroups": {"G": ["X", "RAW", "OLD"]},
        }
    )
    assert elements_for(read, "G", "S") == ("RAW", "OLD", "X")
