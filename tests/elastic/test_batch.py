"""Submissions without a batch system behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vse.elastic.batch.htcondor import HTCondor
from vse.elastic.batch.port import Order, clean_environment, run_program
from vse.elastic.batch.ssh import Ssh
from vse.errors import BadSettings, SourceUnavailable

ORDER = Order("vaf-1", "/opt/my python/bin/python", Path("/home/o'neil/pack.json"), Path("/home/o'neil/jobs"))


@pytest.fixture
def condor(monkeypatch):
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    pytest.importorskip("htcondor2")
    return HTCondor


def test_htcondor_itself_reads_the_submit_description(condor):
    order = replace(ORDER, memory_bytes=2 * 10**9, walltime_s=3600, options=("accounting_group = cms",))
    submit = condor(order).description()
    assert submit["arguments"] == '"-m vse.elastic.join pack.json"'
    assert submit["encrypt_input_files"] == "/home/o'neil/pack.json"
    assert submit["request_memory"] == "1908MB"
    assert submit["accounting_group"] == "cms"
    assert submit["My.VafFacility"] == '"vaf-1"'


def test_names_with_spaces_and_quotes_stay_one_word(condor):
    submit = condor(replace(ORDER, pack=Path("/tmp/my 'own' \"pack\".json"))).description()
    assert submit["arguments"] == "\"-m vse.elastic.join 'my ''own'' \"\"pack\"\".json'\""


def test_a_schedd_that_is_not_there_is_told(condor):
    with pytest.raises(SourceUnavailable, match="jobs of HTCondor"):
        condor(ORDER).list()


@pytest.mark.parametrize("host", ["-oProxyCommand=evil", "", "user@-oProxyCommand=evil"])
def test_a_host_that_is_an_option_is_refused(host):
    with pytest.raises(BadSettings):
        Ssh(ORDER, [host])


def test_a_batch_system_keeps_no_token():
    kept = clean_environment({"PATH": "/bin", "BEARER_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "x"})
    assert kept == {"PATH": "/bin"}


def test_programs_that_fail_or_are_missing_say_so():
    with pytest.raises(SourceUnavailable, match="no such program"):
        run_program(["no-such-sbatch"])
    with pytest.raises(SourceUnavailable, match="cannot access"):
        run_program(["ls", "/no/such/file"])
