"""Where official data lies: ALICE's paths as the seeds and ROOT's TDataSetManagerAliEn have them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vse.catalogue.conventions import MOST_FINDS, parts_of
from vse.config.settings import DatasetSettings, VariantSettings
from vse.errors import BadQuery
from vse.model import DatasetQuery, FindQuery, Lfn, OfficialQuery

ALICE = DatasetSettings().variants


def parts(text, variants=ALICE):
    query = DatasetQuery.parse(text)
    assert isinstance(query, FindQuery | OfficialQuery)
    return parts_of(query, variants)


@pytest.mark.parametrize(
    ("text", "lfn", "tree"),
    [
        (
            "Data;Period=LHC13d;Variant=AOD134;Run=195725;Pass=muon_pass2",
            "/alice/data/2013/LHC13d/000195725/ESDs/muon_pass2/AOD134/0073/AliAOD.root",
            "/aodTree",
        ),
        (
            "Data;Period=LHC12b;Variant=ESDs;Run=178209;Pass=1",
            "/alice/data/2012/LHC12b/000178209/ESDs/pass1/12000178209061.17/AliESDs.root",
            "/esdTree",
        ),
        (
            "Sim;Period=LHC10d1;Variant=ESD;Run=117222",
            "/alice/sim/LHC10d1/117222/001/AliESDs.root",
            "/esdTree",
        ),
        (
            "Sim;Period=LHC12a15;Variant=AOD086;Run=170315",
            "/alice/sim/2012/LHC12a15/170315/AOD086/0001/AliAOD.root",
            "/aodTree",
        ),
    ],
)
def test_a_real_path_is_meant(text, lfn, tree):
    meaning = [part for part in parts(text) if part.means(Lfn(lfn))]
    assert [part.tree for part in meaning] == [tree]


@pytest.mark.parametrize(
    "lfn",
    [
        "/alice/data/2012/LHC12b/000178209/ESDs/pass1/QA/AliESDs.root",  # no chunk of raw data
        "/alice/data/2012/LHC12b/000178209/ESDs/pass1/12000178209061.17/more/AliESDs.root",
        "/alice/data/2012/LHC12b/000178209/ESDs/pass2/12000178209061.17/AliESDs.root",
        "/alice/data/2012/LHC12b/000178210/ESDs/pass1/12000178209061.17/AliESDs.root",
        "/alice/data/2012/LHC12b/000178209/ESDs/pass1/12000178209061.17/AliAOD.root",
    ],
)
def test_other_files_are_not(lfn):
    assert not any(
        part.means(Lfn(lfn)) for part in parts("Data;Period=LHC12b;Variant=ESDs;Run=178209;Pass=1")
    )


def test_each_run_is_a_find_of_its_own():
    found = parts("Data;Period=LHC10h;Variant=AOD086;Run=139505-139507,139437;Pass=2")
    assert [(part.base, part.pattern) for part in found] == [
        (f"/alice/data/2010/LHC10h/000{run}/ESDs/pass2/AOD086", "AliAOD.root")
        for run in (139437, 139505, 139506, 139507)
    ]


@pytest.mark.parametrize("runs", ["", f";Run=139000-{139000 + MOST_FINDS}"])
def test_very_many_runs_are_one_find(runs):
    (part,) = parts(f"Data;Period=LHC10h;Variant=AOD086{runs};Pass=2")
    assert part.base == "/alice/data/2010/LHC10h"
    name = "/alice/data/2010/LHC10h/{}/ESDs/pass2/AOD086/0001/AliAOD.root"
    assert part.means(Lfn(name.format("000139000")))
    assert part.means(Lfn(name.format("000138999"))) == (runs == "")
    assert not part.means(Lfn(name.format("notes")))


def test_a_site_has_conventions_of_its_own():
    mine = {
        "Nano": VariantSettings(file="out.zip#nano.root", tree="Events", data=("/cms/{period}/{run}/{file}",))
    }
    (part,) = parts("Data;Period=B;Variant=nanoV9;Run=7;Pass=x", mine)
    assert (part.base, part.pattern, part.member, part.tree) == ("/cms/B/7", "out.zip", "nano.root", "Events")
    assert part.means(Lfn("/cms/B/7/out.zip"))
    assert not part.means(Lfn("/cms/B/7/deeper/out.zip"))
    with pytest.raises(BadQuery, match="no path of Sim"):
        parts("Sim;Period=B;Variant=Nano;Run=7", mine)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Data;Period=LHC10h;Variant=XYZ;Run=1;Pass=1", "begin with: ESD, AOD"),
        ("Data;Period=secret;Variant=AOD;Run=1;Pass=1", "does not tell its year"),
    ],
)
def test_what_no_convention_covers_is_said(text, reason):
    with pytest.raises(BadQuery, match=reason):
        parts(text)


@pytest.mark.parametrize(
    "template",
    [
        "alice/{file}",
        "/alice/{fil}",
        "/alice/{run.__class__}/{file}",
        "/alice/{run:x}/{file}",
        "/a/{file",
        "/a//{file}",
    ],
)
def test_a_bad_template_is_an_error_of_the_settings(template):
    with pytest.raises(ValidationError):
        VariantSettings(file="a.root", data=(template,))
