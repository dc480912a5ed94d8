"""A site that moves over from afdsmgrd, with a script as such scripts were, and can read what came."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.command_line import ZMUMU, Command, InProcess
from vse.app.init import init_site

pytestmark = pytest.mark.slow

CONF = """\
# shared with xrootd
\t# a comment behind a tab
all.export /alice nolock
if exec xrootd
  xrd.port 1094
fi
set BASE={base}
set   SCRIPT = $BASE/stage.sh
set EMPTY=
xpd.stagereqrepo dir:$BASE/lists     # PROOF's
dsmgrd.purgenoopds false
dsmgrd.urlregex  alien://(.*)$   $BASE/dest$1
dsmgrd.urlregex2 ^root://[^/]+/(/[[:alnum:]_/.]+)$ \\
      $BASE/dest$1
dsmgrd.urlregex3\t^dcap://([a-z]+)\\.([a-z]+)/(.*)$\t$BASE/dest/$2/$1/$3
dsmgrd.urlregex4 ^http://(.*)/x/(.*)$ ${{BASE}}/dest/http/$2
dsmgrd.sleepsecs 1
dsmgrd.scandseveryloops 1
dsmgrd.parallelxfrs 4
dsmgrd.stagecmd $SCRIPT \\
   "$URLTOSTAGE" \\
   "$TREENAME" $EMPTY
dsmgrd.cmdtimeoutsecs 2
dsmgrd.corruptafterfails 1
"""
SCRIPT = """#!/bin/bash
echo "TNetXNGFile warning: OK maybe"; echo "  OKAY"; echo "FAILED? no" >&2
url="$1"; file="${{url%%#*}}"; mkdir -p "$(dirname "$url")"
say() {{ echo "OK $url Tree: $2 EndpointUrl: $1 Size: $(stat -c %s "$file") Events: 2304"; }}
case "$url" in
  *zip*) cp {base}/archive.zip "$file"; say "$url" "$2";;
  *hang*) trap '' TERM; sleep 1000 & wait; sleep 1000;;
  *twice*) echo "FAIL $url Reason: a first try"; cp {zmumu} "$file"; seq 2000; head -c 99 /dev/urandom; echo
           echo "OK $url Tree: x EndpointUrl: y Size: 1 Events: 1"; say "root://pool17/$url" "$2"; exit 1;;
  *okfail*) cp {zmumu} "$file"; say "$url" "$2"; echo "FAIL $url Reason: the tree is gone";;
  *silent*) cp {zmumu} "$file"; say "" "$2";;
  *) cp {zmumu} "$file"; say "$url" "$2";;
esac
"""
NAME = 'it\'s$(touch$IFS/hurt)"q"&;ö.root'
LIST = f"""\
alien:///alice/twice.root tree:/events
alien:///alice/one.zip#AliAOD.root tree:/events
alien:///alice/one.zip#AliESDs.root tree:/events
alien:///alice/{NAME} tree:/events
root://old.host:1094//alice/second.root
dcap://cern.ch/alice/hang.root
http://u.v/x/alice/fourth.root
http://u.v/x/alice/silent.root
http://u.v/x/alice/okfail.root
ftp://no.rule/matches.root
"""
COMES = {
    "/alice/twice.root": "alice/twice.root",
    "/alice/one.zip": "alice/one.zip",
    f"/alice/{NAME}": f"alice/{NAME}",
    "/alice/second.root": "alice/second.root",
    "/x/alice/fourth.root": "http/alice/fourth.root",
    "/x/alice/silent.root": "http/alice/silent.root",
}
FAILS = {
    "/alice/hang.root": "did not end within 2 s",
    "/x/alice/okfail.root": "says FAIL: the tree is gone",
}


@pytest.fixture(scope="module")
def moved_over(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A site whose daemon has worked off one list; its directory, and what it told of the list."""
    base = tmp_path_factory.mktemp("aaf")
    site = base / "site"
    init_site(site, name="test")
    (base / "lists").mkdir()
    with zipfile.ZipFile(base / "archive.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(ZMUMU[0], "AliAOD.root")
        archive.write(ZMUMU[1], "AliESDs.root")
    (base / "afdsmgrd.conf").write_text(CONF.format(base=base))
    script = base / "stage.sh"
    script.write_text(SCRIPT.format(base=base, zmumu=ZMUMU[0]))
    script.chmod(0o755)
    assert InProcess(site)("stager", "import", str(base / "afdsmgrd.conf"), "--write").code == 0
    (base / "lists/muons.txt").write_text(LIST)
    told = base / "lists/muons.txt.status.jsonl"
    daemon = Command(site).start("serve", "stager")
    try:
        deadline_s = time.monotonic() + 90
        while not told.exists() or '"coming"' in told.read_text():
            assert time.monotonic() < deadline_s, told.read_text() if told.exists() else "nothing was told"
            time.sleep(0.2)
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)
    return base, [json.loads(line) for line in told.read_text().splitlines()]


def test_each_line_of_the_list_is_told_of_under_its_own_url(moved_over) -> None:
    _, rows = moved_over
    assert [row["url"] for row in rows] == [line.split(" tree:")[0] for line in LIST.splitlines()]
    states = {row["url"].rpartition("/")[2]: row["state"] for row in rows}
    assert {name for name, state in states.items() if state == "corrupt"} == {
        "hang.root",
        "okfail.root",
        "matches.root",
    }
    assert set(states.values()) == {"staged", "corrupt"}
    assert rows[-1]["error"] == "no afdsmgrd.url_rules matches it"


@pytest.mark.parametrize("lfn", COMES)
def test_what_came_can_be_read_wherever_the_rule_put_it(moved_over, lfn: str, tmp_path: Path) -> None:
    base, _ = moved_over
    stored = base / "dest" / COMES[lfn]
    vse = InProcess(base / "site")
    (told,) = json.loads(vse("why", lfn, "--json").out)["copies"]
    assert told["usable"], told["reason"]
    assert vse("get", lfn, str(tmp_path)).code == 0
    assert (tmp_path / lfn.rpartition("/")[2]).read_bytes() == stored.read_bytes()
    link = base / "site/vse" / lfn[1:]
    assert link.resolve() == stored
    assert not Path("/hurt").exists()


@pytest.mark.parametrize("lfn", FAILS)
def test_why_tells_what_the_command_said_of_a_file_that_has_no_name_yet(moved_over, lfn: str) -> None:
    vse = InProcess(moved_over[0] / "site")
    answer = vse("why", lfn)
    assert answer.code == 0, answer.err
    assert FAILS[lfn] in answer.out and "attempt 1: " in answer.out
