"""BaseSE and Alias: the examples of seed 003, and what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.config.dirac_cfg import parse
from vse.config.inheritance import resolve
from vse.config.settings import Settings
from vse.errors import BadSettings

SRM = """
    AccessProtocol.1
    {
      Host = srm-eoslhcb.cern.ch
      Port = 8443
      PluginName = GFAL2_SRM2
      Protocol = srm
      Path = %s
      Access = remote
      SpaceToken = %s
      WSUrl = /srm/v2/server?SFN=
    }
"""
PRODUCTION = SRM % ("/eos/lhcb/grid/prod", "LHCb-EOS")
USER = SRM % ("/eos/lhcb/grid/user", "LHCb_USER")
BASE = f"""
StorageElementBases
{{
  CERN-EOS
  {{
    BackendType = Eos
    SEType = T0D1
    {PRODUCTION}
  }}
}}
"""
XROOT = """
    GFAL2_XROOT
    {
      Host = eoslhcb.cern.ch
      Port = 8443
      %s
      Protocol = root
      Path = /eos/lhcb/grid/user
      Access = remote
      SpaceToken = LHCb-EOS
      WSUrl = /srm/v2/server?SFN=
    }
"""
# In the seed's text a brace has slipped, and GFAL2_XROOT stands beside CERN-USER; what it says of it ("the
# name of the protocol section can be a plugin name") is meant of a protocol section, as here.
INHERITED = f"""{BASE}
StorageElements
{{
  CERN-DST-EOS
  {{
    BaseSE = CERN-EOS
  }}
  CERN-USER
  {{
    BaseSE = CERN-EOS
    PledgedSpace = 205
    AccessProtocol.1
    {{
      PluginName = GFAL2_SRM2
      Path = /eos/lhcb/grid/user
      SpaceToken = LHCb_USER
    }}
    {XROOT % ""}
  }}
}}
"""
EQUIVALENT = f"""{BASE}
StorageElements
{{
  CERN-DST-EOS
  {{
    BackendType = Eos
    SEType = T0D1
    {PRODUCTION}
  }}
  CERN-USER
  {{
    BackendType = Eos
    SEType = T0D1
    PledgedSpace = 205
    {USER}
    {XROOT % "PluginName =  GFAL2_XROOT"}
  }}
}}
"""


def settings(text: str) -> Settings:
    return Settings.model_validate(parse(text).tree)


def test_the_seeds_example_is_strictly_equivalent():
    short, full = settings(INHERITED).storage_elements, settings(EQUIVALENT).storage_elements
    assert list(short) == list(full) == ["CERN-DST-EOS", "CERN-USER"]
    assert short["CERN-DST-EOS"] == full["CERN-DST-EOS"]
    user, same = short["CERN-USER"], full["CERN-USER"]
    assert user.protocols[0] == same.protocols[0]
    assert user.model_copy(update={"protocols": ()}) == same.model_copy(update={"protocols": ()})
    # a section named after its plugin needs no PluginName: all else is equal, and so is the plugin
    xroot, named = user.protocols[1], same.protocols[1]
    assert xroot.plugin == named.plugin == "GFAL2_XROOT"
    assert xroot.model_copy(update={"plugin_name": "GFAL2_XROOT"}) == named


def test_what_the_seeds_example_means():
    user = settings(INHERITED).storage_elements["CERN-USER"]
    srm = user.protocols[0]
    assert (user.backend_type, user.se_type, user.pledged_space) == ("Eos", "T0D1", 205.0)
    assert (user.is_tape, user.is_disk) == (False, True)
    assert (srm.section, srm.host, srm.port, srm.path, srm.space_token, srm.ws_url, srm.access) == (
        "AccessProtocol.1",
        "srm-eoslhcb.cern.ch",
        8443,
        "/eos/lhcb/grid/user",
        "LHCb_USER",
        "/srm/v2/server?SFN=",
        "remote",
    )


def test_a_base_is_not_an_element_and_is_left_as_it_was():
    read = settings(INHERITED)
    assert "CERN-EOS" not in read.storage_elements
    assert read.storage_element_bases["CERN-EOS"].protocols[0].path == "/eos/lhcb/grid/prod"


def element(base: str, own: str) -> object:
    text = (
        f"StorageElementBases {{\n B {{\n{base}\n}}\n}}\nStorageElements {{\n E {{\nBaseSE = B\n{own}\n}}\n}}"
    )
    return settings(text).storage_elements["E"]


def test_own_options_hold_and_new_sections_follow_those_of_the_base():
    read = element(
        "SEType = T1D0\nAccessProtocols = root, srm\nS1 {\nHost = a\n}\nS2 {\nHost = b\n}",
        "AccessProtocols = https\nS3 {\nHost = c\n}\nS2 {\nPort = 1\n}",
    )
    assert (read.se_type, read.access_protocols) == ("T1D0", ("https",))
    assert [(one.section, one.host, one.port) for one in read.protocols] == [
        ("S1", "a", None),
        ("S2", "b", 1),
        ("S3", "c", None),
    ]


def test_access_is_inherited_as_everything_else_is():
    assert element("WriteAccess = Banned", "").write_access is False
    assert element("WriteAccess = Banned", "WriteAccess = Active").write_access is True


def test_an_empty_option_says_nothing():
    read = element(
        "OccupancyLFN = /x.json\nS {\nHost = a\nPort = 1\n}", "OccupancyLFN =\nS {\nHost =\nPort =\n}"
    )
    assert (read.protocols[0].host, read.protocols[0].port) == ("a", 1)
    assert read.occupancy_file("lhcb") == "/lhcb/occupancy.json"


def test_vopath():
    base = "S {\nPath = /base\nVOPath {\nbiomed = /base/bio\nlhcb = /base/lhcb\n}\n}"
    (same,) = element(base, "").protocols
    assert [same.for_vo(vo) for vo in ("biomed", "lhcb", "ilc", "")] == [
        "/base/bio",
        "/base/lhcb",
        "/base",
        "/base",
    ]
    (merged,) = element(base, "S {\nVOPath {\nilc = /ilc\nlhcb = /mine\n}\n}").protocols
    assert [merged.for_vo(vo) for vo in ("biomed", "lhcb", "ilc", "")] == [
        "/base/bio",
        "/mine",
        "/ilc",
        "/base",
    ]
    (replaced,) = element(base, "S {\nPath = /own\nVOPath {\nilc = /ilc\n}\n}").protocols
    assert [replaced.for_vo(vo) for vo in ("biomed", "ilc", "")] == ["/own", "/ilc", "/own"]


def test_bases_may_have_bases():
    read = Settings.model_validate(
        {
            "StorageElementBases": {
                "A": {"BackendType": "a", "SEType": "T1D0", "S": {"Host": "a", "Port": 1}},
                "B": {"BaseSE": "A", "BackendType": "b", "S": {"Host": "b"}},
            },
            "StorageElements": {"E": {"BaseSE": "B"}},
        }
    ).storage_elements["E"]
    assert (read.backend_type, read.se_type) == ("b", "T1D0")
    assert (read.protocols[0].host, read.protocols[0].port) == ("b", 1)


@pytest.mark.parametrize(
    ("bases", "elements", "words"),
    [
        ({"A": {"BaseSE": "A"}}, {}, "BaseSE goes round in a circle: A -> A"),
        ({"A": {"BaseSE": "B"}, "B": {"BaseSE": "A"}}, {}, "circle: A -> B -> A"),
        (
            {"CERN-EOS": {}},
            {"E": {"BaseSE": "CERN-ESO"}},
            "no base 'CERN-ESO' for E. Did you mean 'CERN-EOS'?",
        ),
        ({"A": {"BaseSE": "X"}}, {"E": {"BaseSE": "A"}}, "no base 'X' for A"),
        ({}, {"E": {"BaseSE": "F"}, "F": {}}, "names F, which is a storage element, not a base"),
        ({}, {"E": {"BaseSE": "F"}}, "there is no base 'F' for E"),
        ({}, {"E": {"Alias": "E"}}, "Alias goes round in a circle: E -> E"),
        ({}, {"E": {"Alias": "F"}, "F": {"Alias": "E"}}, "circle: E -> F -> E"),
        ({}, {"CERN": {}, "E": {"Alias": "CERM"}}, "no such storage element. Did you mean 'CERN'?"),
    ],
)
def test_what_cannot_be_names_the_chain(bases, elements, words):
    with pytest.raises(BadSettings) as caught:
        Settings.model_validate({"StorageElementBases": bases, "StorageElements": elements})
    assert words in str(caught.value)


def test_aliases_are_followed_to_their_end():
    read = Settings.model_validate(
        {
            "StorageElements": {
                "DISK": {"S": {"Host": "a"}},
                "OLD": {"Alias": "OLDER"},
                "OLDER": {"Alias": "DISK"},
            },
            "StorageElementAliases": {"TAPE": "OLD"},
        }
    )
    assert list(read.storage_elements) == ["DISK"]
    assert read.aliases == {"OLD": "DISK", "OLDER": "DISK", "TAPE": "DISK"}


_leaf = st.sampled_from(["x", "y", ""])
_section = st.dictionaries(st.sampled_from(["Host", "Path", "SpaceToken"]), _leaf, max_size=3)
_element = st.dictionaries(
    st.sampled_from(["BackendType", "OccupancyLFN", "S1", "S2"]), _leaf, max_size=2
).flatmap(lambda plain: st.builds(lambda s1, s2: plain | {"S1": s1, "S2": s2}, _section, _section))


@given(
    st.dictionaries(st.sampled_from("AB"), _element),
    st.dictionaries(st.sampled_from("EF"), _element),
    st.data(),
)
def test_resolving_is_total_and_twice_is_once(bases, elements, data):
    for one in [*bases.values(), *elements.values()]:
        base = data.draw(st.sampled_from([None, *bases]))
        one.update({"BaseSE": base} if base else {})
    try:
        once = resolve({"StorageElementBases": bases, "StorageElements": elements})
    except BadSettings as error:
        assert "circle" in str(error)
        return
    assert resolve(once.tree).tree == once.tree
    for name, element in elements.items():
        resolved = once.tree["StorageElements"][name]
        own = {key: value for key, value in element["S1"].items() if value}
        assert own.items() <= resolved.get("S1", {}).items()
        for key in set(resolved) - set(element):
            assert ("StorageElements", name, key) in once.inherited
