"""DIRAC's configuration laid under vse.toml: what holds, where it came from, what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from vse.config.elements import ElementSettings, ProtocolSettings
from vse.config.load import Loaded, flatten, load
from vse.errors import BadSettings

DIRAC = """\
Resources
{
  StorageElementBases
  {
    EOS
    {
      BackendType = Eos
      SRM { }
    }
  }
  StorageElements
  {
    ChecksumType = MD5
    CERN-USER
    {
      BaseSE = EOS
      ReadAccess = Degraded
      WriteAccess = Banned
      AccessProtocols = root
      AccessProtocols += srm
      SRM
      {
        Host = a.cern.ch
        Port = 8443
        WSUrl = /srm/managerv2?SFN=
        Access = Remote
        OutputProtocols = file, https
      }
    }
    TAPE
    {
      SEType = T1D0
      ArchiveTimeout = 86400
      BringOnlineTimeout = 3600
    }
    OLD
    {
      Alias = CERN-USER
    }
  }
  StorageElementGroups
  {
    Tier0 = CERN-USER, TAPE
  }
  Sites
  {
    LCG
    {
      LCG.CERN.cern
      {
        Coordinates = 6:46
        SE = EOS
        AssociatedSEs
        {
          Logs = TAPE
        }
      }
    }
  }
  Countries
  {
    pl
    {
      AssignedTo = de
      Mail = someone
    }
  }
}
Operations
{
  Defaults
  {
    DataManagement
    {
      ThirdPartyProtocols = root, srm
      RegistrationProtocols = srm
      StageProtocols = srm
      FTSVersion = FTS3
    }
  }
  lhcb
  {
    Production
    {
      DataManagement
      {
        AccessProtocols = root
      }
    }
  }
}
Systems
{
  Framework
  {
    Anything = at all
  }
}
"""
TOML = """\
[site]
name = "LCG.CERN.cern"

[dirac]
cfg = "etc/dirac.cfg"

[StorageElements.LOCAL.File]
Path = "storage"

[StorageElements.CERN-USER]
WriteAccess = "Active"
[StorageElements.CERN-USER.SRM]
Port = 1
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/dirac.cfg").write_text(DIRAC)
    (tmp_path / "vse.toml").write_text(TOML)
    return tmp_path / "vse.toml"


def line(text: str, words: str, after: str = "") -> int:
    """Return the number of the line that ``words`` stand in, the first one behind ``after``."""
    start = text.index(after) if after else 0
    return text[: text.index(words, start)].count("\n") + 1


def loaded_from(site: Path, cfg: str, toml: str = TOML) -> Loaded:
    (site.parent / "etc/dirac.cfg").write_text(cfg)
    site.write_text(toml)
    return load(site)


def test_everything_of_ours_is_taken(site):
    settings = load(site).settings
    assert list(settings.storage_elements) == ["LOCAL", "CERN-USER", "TAPE"]
    user = settings.storage_elements["CERN-USER"]
    assert (user.backend_type, user.checksum_type, user.access_protocols) == ("Eos", "md5", ("root", "srm"))
    assert (user.read_access, user.write_access) == (True, True)
    (srm,) = user.protocols
    assert (srm.host, srm.port, srm.ws_url, srm.access) == ("a.cern.ch", 1, "/srm/managerv2?SFN=", "remote")
    assert srm.output_protocols == ("file", "https")
    tape = settings.storage_elements["TAPE"]
    assert (tape.is_tape, tape.is_disk) == (True, False)
    assert (tape.archive_timeout_s, tape.bring_online_timeout_s) == (86400, 3600)
    assert settings.aliases == {"OLD": "CERN-USER"}
    assert settings.storage_element_groups == {"Tier0": ("CERN-USER", "TAPE")}
    assert settings.sites["LCG.CERN.cern"].se == ("EOS", "CERN-USER", "OLD")
    assert settings.sites["LCG.CERN.cern"].associated_ses == {"Logs": ("TAPE",)}
    assert settings.countries["pl"].assigned_to == "de"
    assert settings.data_management.third_party_protocols == ("root", "srm")
    assert settings.data_management.registration_protocols == ("srm",)
    assert settings.data_management.stage_protocols == ("srm",)


def test_each_value_tells_where_it_came_from(site):
    origins = {key: origin for key, _, origin in flatten(load(site, flags={"dirac.cfg": "etc/dirac.cfg"}))}
    cfg = site.parent / "etc/dirac.cfg"
    user = "StorageElements.CERN-USER"
    assert origins[f"{user}.BackendType"] == f"{cfg}:{line(DIRAC, 'BackendType')}, inherited from EOS"
    assert origins[f"{user}.ReadAccess"] == f"{cfg}:{line(DIRAC, 'ReadAccess')}"
    assert origins[f"{user}.AccessProtocols"] == f"{cfg}:{line(DIRAC, 'AccessProtocols +=')}"
    assert origins[f"{user}.SRM.Host"] == f"{cfg}:{line(DIRAC, 'Host')}"
    assert origins[f"{user}.SRM.Port"] == f"{site}:{line(TOML, 'Port')}"
    assert origins[f"{user}.WriteAccess"] == f"{site}:{line(TOML, 'WriteAccess')}"
    assert origins[f"{user}.RemoveAccess"] == "default"
    assert origins["DataManagement.StageProtocols"] == f"{cfg}:{line(DIRAC, 'StageProtocols')}"
    assert origins["dirac.cfg"] == "--set dirac.cfg"


def test_the_environment_reaches_names_that_only_dirac_has(site):
    environment = {"VSE_STORAGEELEMENTS__CERN_USER__SRM__HOST": "b.cern.ch"}
    element = load(site, environment).settings.storage_elements["CERN-USER"]
    assert element.protocols[0].host == "b.cern.ch"


def test_of_several_files_the_later_holds(site):
    (site.parent / "etc/ours.cfg").write_text("StorageElements {\n TAPE {\n SEType = T1D1\n}\n NEW {\n}\n}")
    site.write_text(TOML.replace('"etc/dirac.cfg"', '["etc/dirac.cfg", "etc/ours.cfg"]'))
    elements = load(site).settings.storage_elements
    assert list(elements) == ["LOCAL", "CERN-USER", "TAPE", "NEW"]
    assert (elements["TAPE"].se_type, elements["TAPE"].archive_timeout_s) == ("T1D1", 86400)


def test_what_has_no_effect_is_told(site):
    cfg = DIRAC.replace("BackendType = Eos", "BackendType = Eos\nTotalCapacityTB = 5")
    cfg = cfg.replace("Port = 8443", "SvcClass = x\nBucket = b").replace(
        "BaseSE = EOS", "BaseSE = EOS\nArchiveTimeout = 5"
    )
    cfg = cfg.replace("Alias = CERN-USER", "Alias = CERN-USER\nSEType = T0D1")
    toml = TOML.replace("Port = 1", 'Protocol = "srm"\nTokenFile = "t"')
    remarks = "\n".join(map(str, loaded_from(site, cfg, toml).remarks))
    for words in (
        "TotalCapacityTB is DIRAC's and not used",
        "SvcClass is DIRAC's and not used",
        "Bucket has no effect with SRM, it is for S3",
        "ArchiveTimeout has no effect: CERN-USER is no tape, its SEType is T0D1",
        "TokenFile has no effect with SRM, it is for HTTP",
        "SEType has no effect: OLD is an alias",
        "not about storage elements, and not used: FTSVersion",
        "only /Operations/Defaults is: /Operations/lhcb/Production/DataManagement",
    ):
        assert words in remarks
    assert f"dirac.cfg:{line(cfg, 'SvcClass')}: SvcClass" in remarks
    assert len(remarks.splitlines()) == 8


def test_what_the_example_says_all_has_effect(site):
    remarks = [str(one) for one in load(site).remarks if "DataManagement" not in str(one)]
    assert remarks == [
        f"{site.parent}/etc/dirac.cfg:{line(DIRAC, 'DataManagement')}: "
        "not about storage elements, and not used: FTSVersion"
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("BackendType = Eos", "BackendTyp = Eos", "unknown key 'BackendTyp'"),
        ("SEType = T1D0", "SEtype = T1D0", "'SEtype' in [StorageElements.TAPE]. Did you mean 'SEType'?"),
        ("SEType = T1D0", "Host = zz", "belongs into a protocol section: [StorageElements.TAPE.SECTION]"),
        ("SEType = T1D0", "SEType = tape", "StorageElements.TAPE.SEType: "),
        ("SEType = T1D0", "ChecksumType = CRC", "StorageElements.TAPE.ChecksumType: "),
        ("SEType = T1D0", "ReadAccess = Actve", "is one of Active, Degraded, Probing, Banned, Error"),
        ("ArchiveTimeout = 86400", "ArchiveTimeout = 1 day", "not '1 day'"),
        ("Host = a.cern.ch", "Hst = x", "'Hst' in [StorageElements.CERN-USER.SRM]. Did you mean 'Host'?"),
        ("Access = Remote", "Access = near", "StorageElements.CERN-USER.SRM.Access"),
        ("Access = Remote", "VoPath { }", "Did you mean 'VOPath'?"),
        ("BaseSE = EOS", "BaseSE = TAPE", "names TAPE, which is a storage element, not a base"),
        ("BackendType = Eos", "BaseSE = EOS", "circle: EOS -> EOS"),
        ("Alias = CERN-USER", "Alias = OLD", "circle: OLD -> OLD"),
        ("StageProtocols = srm", "StageProtocol = srm", "Did you mean 'StageProtocols'?"),
        ("ChecksumType = MD5", "AccessProtocols = srm", "AccessProtocols stands in StorageElements itself"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(site, old, new, words):
    cfg = DIRAC.replace(old, new, 1)
    with pytest.raises(BadSettings) as caught:
        loaded_from(site, cfg)
    assert words in str(caught.value)
    assert f"{site.parent}/etc/dirac.cfg:{line(cfg, new)}" in str(caught.value)


def test_a_port_that_is_none_names_its_base(site):
    cfg = DIRAC.replace("SRM { }", "SRM {\nPort = 8443 # https\n}")
    with pytest.raises(BadSettings) as caught:
        loaded_from(site, cfg, TOML.replace("Port = 1", ""))
    assert f"dirac.cfg:{line(cfg, '# https')}" in str(caught.value)
    assert "not '8443 # https'" in str(caught.value)


def test_a_file_that_is_not_there(site):
    site.write_text(TOML.replace("dirac.cfg", "dirak.cfg"))
    with pytest.raises(BadSettings, match=r"etc/dirak.cfg.*No such file"):
        load(site)


def test_a_file_of_the_seeds_shape_has_its_sections_at_the_top(site):
    loaded = loaded_from(
        site, "StorageElements {\n A {\n SEType = T1D1\n}\n}", '[dirac]\ncfg = "etc/dirac.cfg"\n'
    )
    assert loaded.settings.storage_elements["A"].se_type == "T1D1"


def test_an_element_of_other_experiments_is_closed(site):
    cfg = DIRAC.replace("SEType = T1D0", "SEType = T1D0\nVO = lhcb, biomed")
    mine = loaded_from(site, cfg, TOML.replace("[dirac]", 'vo = "lhcb"\n[dirac]'))
    assert mine.settings.storage_elements["TAPE"].read_access is True
    closed = loaded_from(site, cfg, TOML.replace("[dirac]", 'vo = "ilc"\n[dirac]'))
    tape = closed.settings.storage_elements["TAPE"]
    assert (tape.read_access, tape.write_access, tape.check_access, tape.remove_access) == (False,) * 4
    assert "site.vo ilc is not in VO" in closed.origins[("StorageElements", "TAPE", "ReadAccess")]
    assert any("TAPE is closed to us" in one.text for one in closed.remarks)
    unsaid = loaded_from(site, cfg)
    assert any("VO of TAPE is not used: site.vo does not say" in one.text for one in unsaid.remarks)


@pytest.mark.parametrize("word", ["Active", "Degraded", "active", "True", "true", True])
def test_words_that_allow(word):
    assert ElementSettings.model_validate({"WriteAccess": word}).write_access is True


@pytest.mark.parametrize("word", ["Probing", "Banned", "Error", "Unknown", "InActive", "False", False])
def test_words_that_refuse(word):
    assert ElementSettings.model_validate({"WriteAccess": word}).write_access is False


def test_volumes_and_options_and_keys(site):
    site.write_text(
        """
[StorageElements.POOL.VOLUMES]
Placement = "GUID"
[[StorageElements.POOL.VOLUMES.Volumes]]
Path = "a"
Size_bytes = 10
[[StorageElements.POOL.VOLUMES.Volumes]]
Path = "/b"
Size_bytes = 20
Lifetime_s = 3.5

[StorageElements.CLOUD.S3]
Host = "s3.example.org"
Path = "bucket"
Aws_access_key_id = "AKIA"
Aws_secret_access_key = "geheim"
SecureConnection = "False"

[StorageElements.ANY.Fsspec]
Protocol = "sftp"
Options = { password = "geheim", timeout = 5 }
"""
    )
    loaded = load(site)
    pool = loaded.settings.storage_elements["POOL"].protocols[0]
    assert pool.placement == "guid"
    assert [(str(one.path), one.size_bytes, one.lifetime_s) for one in pool.volumes] == [
        (str(site.parent / "a"), 10, 0.0),
        ("/b", 20, 3.5),
    ]
    cloud = loaded.settings.storage_elements["CLOUD"].protocols[0]
    assert cloud.aws_secret_access_key is not None
    assert cloud.aws_secret_access_key.get_secret_value() == "geheim"
    assert cloud.secure_connection is False
    assert loaded.settings.storage_elements["ANY"].protocols[0].options == {
        "password": "geheim",
        "timeout": 5,
    }
    assert "geheim" not in str(flatten(loaded)) + repr(cloud)
    assert ("StorageElements.ANY.Fsspec.Options.timeout", "5") in [row[:2] for row in flatten(loaded)]
    assert loaded.remarks == ()


def test_a_section_named_after_its_driver_is_held_to_it(site):
    site.write_text('[StorageElements.A.File]\nPath = "a"\nBucket = "b"\nWSUrl = "/srm?SFN="\n')
    assert [str(one) for one in load(site).remarks] == [
        f"{site}:3: Bucket has no effect with File, it is for S3",
        f"{site}:4: WSUrl has no effect with File, it is for SRM",
    ]


def test_a_wrong_volume_is_named(site):
    site.write_text('[[StorageElements.POOL.File.Volumes]]\nPath = "a"\nSize = 10\n')
    with pytest.raises(BadSettings, match=r"Size_bytes is missing|unknown key 'Size'"):
        load(site)


def test_a_bad_secret_is_not_shown(site):
    site.write_text("[StorageElements.CLOUD.S3]\nAws_secret_access_key = true\n")
    with pytest.raises(BadSettings, match="Aws_secret_access_key") as caught:
        load(site)
    assert "True" not in str(caught.value)


def test_the_path_of_an_experiment():
    section = ProtocolSettings.model_validate(
        {"Section": "S", "Path": "/castor/cern.ch/grid", "VOPath": {"biomed": "/castor/cern.ch/biomed/grid"}}
    )
    assert section.for_vo("biomed") == "/castor/cern.ch/biomed/grid"
    assert section.for_vo("lhcb") == section.for_vo("") == "/castor/cern.ch/grid"
