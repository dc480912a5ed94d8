"""afdsmgrd's configuration file: all directives of seed 002 C.2, and the sample of C.2.3."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.config.settings import UrlRule
from vse.errors import BadSettings
from vse.staging.afdsmgrd import name_of, staged_url
from vse.staging.afdsmgrd_conf import Configuration, element_of, lay_over, parse, sections_of

SAMPLE = """\
xpd.stagereqrepo /aaf/var/proof/datasets
dsmgrd.purgenoopds true
dsmgrd.urlregex alien://(.*)$ /storage$1
dsmgrd.sleepsecs 20
dsmgrd.scandseveryloops 30
dsmgrd.parallelxfrs 10
dsmgrd.stagecmd /aaf/bin/af-xrddm-verify.sh "$URLTOSTAGE" "$TREENAME"
dsmgrd.cmdtimeoutsecs 3600
dsmgrd.corruptafterfails 0
"""

WHOLE = """\
# shared with xrootd and PROOF
all.export /alice
set PMASTER=master.example.org
set BASE = /opt/$PMASTER
xpd.port 1093
xpd.stagereqrepo dir:$BASE/datasets   # where requests are
dsmgrd.urlregex alien://(.*)$ \\
    root://$PMASTER/$1
dsmgrd.urlregex2 ^http://([[:alpha:]]+)/(.*)$ root://$1/$2
dsmgrd.urlregex4 ^x:(.)(.)$ $2$1
dsmgrd.stagecmd ${BASE}/stage.sh "$URLTOSTAGE" $TREENAME
dsmgrd.notifyplugin /usr/lib/libafdsmgrd_notify_apmon.so
dsmgrd.apmonurl apmon://apmon.cern.ch
dsmgrd.apmonprefix MY::CLUSTER::PREFIX
dsmgrd.parallelxfrs 4
dsmgrd.parallelxfrs 6
"""


def test_the_sample_of_the_seed():
    assert parse(SAMPLE) == Configuration(
        repository="/aaf/var/proof/datasets",
        purge=True,
        rules=((r"alien://(.*)$", "/storage$1"),),
        sleep_s=20,
        scan_every_loops=30,
        parallel=10,
        command='/aaf/bin/af-xrddm-verify.sh "$URLTOSTAGE" "$TREENAME"',
        timeout_s=3600,
        corrupt_after=0,
    )


def test_every_directive_variables_comments_and_those_of_others():
    one = parse(WHOLE)
    assert one.repository == "/opt/master.example.org/datasets"
    assert one.command == '/opt/master.example.org/stage.sh "$URLTOSTAGE" $TREENAME'
    assert one.rules == (
        ("alien://(.*)$", "root://master.example.org/$1"),
        ("^http://([a-zA-Z]+)/(.*)$", "root://$1/$2"),
        ("^x:(.)(.)$", "$2$1"),
    )
    assert (one.plugin, one.apmon_url) == ("/usr/lib/libafdsmgrd_notify_apmon.so", "apmon://apmon.cern.ch")
    assert one.apmon_prefix == "MY::CLUSTER::PREFIX"
    assert one.parallel == 6
    assert one.ignored == ("all.export", "xpd.port")


def test_what_is_left_out_is_as_with_afdsmgrd():
    one = parse("")
    assert (one.sleep_s, one.scan_every_loops, one.parallel, one.command) == (30, 10, 8, "/bin/false")
    assert (one.timeout_s, one.corrupt_after, one.purge, one.repository) == (0, 0, False, "")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("dsmgrd.parallelxfrs many", "takes a number, not 'many'"),
        ("dsmgrd.sleepsecs -3", "takes a number"),
        ("dsmgrd.purgenoopds perhaps", "true or false"),
        ("dsmgrd.urlregex alien://(.*)$", "an expression and what is put"),
        ("dsmgrd.urlregex alien://(.* x", "no regular expression"),
    ],
)
def test_a_value_that_cannot_be_names_its_line(line, found):
    with pytest.raises(BadSettings, match=r"afdsmgrd\.conf, line 2") as caught:
        parse(f"# first\n{line}\n")
    assert found in str(caught.value)


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text):
    try:
        parse(text)
    except BadSettings as error:
        assert "line" in str(error)


def test_urls_are_translated_as_the_seed_shows():
    source = "alien:///alice/data/2012/LHC12b/000178209/ESDs/pass1/12000178209061.17/AliESDs.root"
    rules = [UrlRule(regex=regex, subst=subst) for regex, subst in parse(WHOLE).rules]
    assert staged_url(source, [UrlRule(regex="alien://(.*)$", subst="root://xrd.cern.ch/$1")]) == (
        "root://xrd.cern.ch/" + source.removeprefix("alien://")
    )
    assert staged_url("x:ab", rules) == "ba"
    assert staged_url("other:ab", rules) is None
    assert staged_url("other:ab", []) == "other:ab"
    assert staged_url("a", [UrlRule(regex="(a)|(b)", subst="<$1$2$9>")]) == "<a>"


@pytest.mark.parametrize(
    ("url", "lfn"),
    [
        ("alien:///alice/a b.root", "/alice/a b.root"),
        ("root://host:1094//alice/a.root?x=1", "/alice/a.root"),
        ("https://host/alice/a%20b.root", "/alice/a b.root"),
        ("/alice/a.root", "/alice/a.root"),
        ("file:///alice/a.zip#b.root", "/alice/a.zip"),
    ],
)
def test_the_name_of_a_url_is_its_path(url, lfn):
    assert name_of(url) == lfn


def test_the_sections_are_laid_over_a_file_that_keeps_its_comments():
    before = '# ours\n[site]\nname = "x"\n\n[stager]\nslots = 3 # few\nlease_s = 20.0\n'
    sections = sections_of(parse(WHOLE), "DISK") + element_of(parse(WHOLE), "DISK")
    after = lay_over(before, sections)
    told = tomllib.loads(after)
    assert after.startswith('# ours\n[site]\nname = "x"\n')
    assert told["stager"]["slots"] == 6
    assert told["stager"]["lease_s"] == 20.0
    assert told["stager"]["max_failures"] == 0
    assert told["stager"]["external"]["destinations"] == ["DISK"]
    assert told["afdsmgrd"]["url_rules"][0]["subst"] == "root://master.example.org/$1"
    assert told["afdsmgrd"]["scan_every_s"] == 300.0
    assert told["monitor"]["plugins"]["apmon"]["prefix"] == "MY::CLUSTER::PREFIX"
    assert told["StorageElements"]["DISK"]["XROOT"]["Host"] == "master.example.org"
    assert lay_over(after, sections) == after
