"""The configurations of seed 003 as they stand there, and what comes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vse.config.load import load
from vse.errors import BadSettings
from vse.model import Lfn
from vse.storage.element import Elements

CERN_USER = """
StorageElements
{
CERN-USER
{
  OccupancyPlugin = WLCGAccountingJson
  OccupancyLFN = /lhcb/spaceReport.json
  SpaceReservation = LHCb_USER
  ReadAccess = Active
  WriteAccess = Active
  AccessProtocol.1
  {
    # The name of the DIRAC Plugin module to be used for implementation
    # of the access protocol
    PluginName = SRM2
    # Flag specifying the access type (local/remote)
    Access = remote
    # Protocol name
    Protocol = srm
    # Host endpoint
    Host = srm-lhcb.cern.ch
    Port = 8443
    # WSUrl part of the SRM-type PFNs
    WSUrl = /srm/managerv2?SFN=
    # Path to navigate to the VO namespace on the storage
    Path = /castor/cern.ch/grid
    # SRM space token
    SpaceToken = LHCb_USER
    # VO specific path definitions
    VOPath
    {
      biomed = /castor/cern.ch/biomed/grid
    }
  }
}
LUSTRE
{
File
{
  Protocol = file
  Path = /mnt/lustre_3/storm_3/lhcbdisk/
  Host = localhost
  Access = local
}
}
}
"""
SLIPPED = """
StorageElements
{
  GFAL2_XROOT
  {
    Host = eoslhcb.cern.ch
    Port = 8443
    Protocol = root
  }
}
"""


def settings_of(directory: Path, cfg: str, vo: str):
    (directory / "dirac.cfg").write_text(cfg)
    (directory / "vse.toml").write_text(f'[site]\nvo = "{vo}"\n[dirac]\ncfg = "dirac.cfg"\n')
    return load(directory / "vse.toml")


@pytest.mark.parametrize(
    ("vo", "path"), [("lhcb", "/castor/cern.ch/grid"), ("biomed", "/castor/cern.ch/biomed/grid")]
)
def test_the_first_example_and_its_vo_path(tmp_path, vo, path):
    loaded = settings_of(tmp_path, CERN_USER, vo)
    assert loaded.remarks == ()
    user = loaded.settings.storage_elements["CERN-USER"]
    assert (user.occupancy_plugin, user.occupancy_lfn) == ("WLCGAccountingJson", "/lhcb/spaceReport.json")
    assert (user.space_reservation, user.protocols[0].space_token) == ("LHCb_USER", "LHCb_USER")
    element = Elements.from_settings(loaded.settings).get("CERN-USER")
    url = f"srm://srm-lhcb.cern.ch:8443/srm/managerv2?SFN={path}/lhcb/f"
    assert element.registration_url(Lfn("/lhcb/f")) == url
    assert element.lfn_of(url) == "/lhcb/f"


def test_a_mounted_file_system_ends_with_the_lfn(tmp_path):
    loaded = settings_of(tmp_path, CERN_USER, "lhcb")
    here = Elements.from_settings(loaded.settings).get("LUSTRE")
    assert here.url(Lfn("/lhcb/f")) == "file:///mnt/lustre_3/storm_3/lhcbdisk/lhcb/f"
    away = Elements.from_settings(loaded.settings, elsewhere=["LUSTRE"]).get("LUSTRE")
    assert not away.can("read")


def test_the_brace_that_slipped_in_the_seed_is_told(tmp_path):
    """There GFAL2_XROOT stands beside the element that it is a protocol section of."""
    with pytest.raises(
        BadSettings, match=r"dirac.cfg:6: unknown key 'Host'.*belongs into a protocol section"
    ):
        settings_of(tmp_path, SLIPPED, "lhcb")
