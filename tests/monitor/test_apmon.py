"""MonALISA's datagrams, taken by a receiver of our own and decoded."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import xdr
from vse.errors import BadSettings, SourceUnavailable
from vse.monitor.apmon import MOST_BYTES, ApMon, Receiver, datagrams, parse_destinations, receivers_of
from vse.monitor.plugins import DatasetFigures, Monitors, Report
from vse.monitor.process import ProcessFigures

PROCESS = ProcessFigures(300 * 1024**2, 2 * 1024**3, 3600.0, 12.5, 2.5, 30.0, 0.5, 0.25)
DATASET = DatasetFigures("/default/anna/LHC13d", 1000, 990, 3, "/aodTree", 5_000_000_000, 7_000_000_000_000)
REPORT = Report("me", PROCESS, (DATASET,), {"queued": 7})


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(10)
        yield one


def options(receiver: socket.socket, **more: str) -> dict[str, str]:
    url = f"apmon://:sesame@127.0.0.1:{receiver.getsockname()[1]}"
    return {"url": url, "prefix": "MY::CLUSTER::PREFIX", "node": "here.example.org", **more}


def test_the_status_and_each_dataset_arrive_with_the_fields_of_afdsmgrd(receiver):
    monitor = ApMon.from_options(options(receiver))
    monitor.send(REPORT)
    monitor.close()
    status, dataset = (xdr.decode(receiver.recv(4096)) for _ in range(2))
    assert status.head == dataset.head == "v:2.17.02-pyp:sesame"
    assert (status.cluster, status.node) == ("MY::CLUSTER::PREFIX_status", "here.example.org")
    assert status.values["rss"] == 300 * 1024
    assert status.values["vsize"] == 2 * 1024**2
    times = [status.values[f"{name}_sec"] for name in ("real", "user", "sys")]
    assert times == [3600, 12.5, 2.5]
    assert (status.values["delta_user_sec"], status.values["delta_sys_sec"]) == (0.5, 0.25)
    assert status.values["delta_pcpu"] == pytest.approx(2.5)
    assert status.values["transfers_queued"] == 7
    assert (dataset.cluster, dataset.node) == ("MY::CLUSTER::PREFIX_datasets", "/default/anna/LHC13d")
    assert dataset.values == {
        "name": "/default/anna/LHC13d",
        "files": 1000,
        "staged": 990,
        "corrupt": 3,
        "tree": "/aodTree",
        "events": 5e9,
        "size": 7e12,
    }
    assert (dataset.instance, dataset.sequence) == (status.instance, status.sequence + 1)


values = st.dictionaries(
    st.text(max_size=30),
    st.text(max_size=900) | st.integers(-(2**70), 2**70) | st.floats(),
    min_size=1,
    max_size=60,
)


@given(values, st.text(max_size=20), st.text(max_size=50))
def test_whatever_is_told_fits_the_datagrams_and_arrives(told, password, node):
    pieces = list(datagrams(password, 5, 100, "C", node, told))
    assert all(len(piece) <= MOST_BYTES for piece in pieces)
    decoded = [xdr.decode(piece) for piece in pieces]
    assert [one.sequence for one in decoded] == list(range(100, 100 + len(pieces)))
    arrived = {name: value for one in decoded for name, value in one.values.items()}
    assert set(arrived) == set(told)
    for name, value in told.items():
        if isinstance(value, int):
            assert arrived[name] == (value if abs(value) < 2**31 else float(value))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("apmon://apmon.cern.ch", Receiver("apmon.cern.ch", 8884, "")),
        ("apmon://:secret@ml.example.org", Receiver("ml.example.org", 8884, "secret")),
        ("apmon://ml.example.org:9000", Receiver("ml.example.org", 9000, "")),
    ],
)
def test_urls_of_the_seed(url, wanted):
    assert receivers_of(url) == (wanted,)


@pytest.mark.parametrize("url", ["", "udp://x", "apmon://", "apmon://host:notaport"])
def test_a_url_that_leads_nowhere_says_so(url):
    with pytest.raises(BadSettings, match=r"monitor\.plugins\.apmon"):
        receivers_of(url)


def test_a_list_of_servers_is_fetched(receiver):
    port = receiver.getsockname()[1]
    listed = f"# servers\nxApMon_job_monitoring = on\n127.0.0.1:{port} sesame\nml.example.org\n"

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/list.conf" else 404)
            self.end_headers()
            self.wfile.write(listed.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        assert receivers_of(f"{base}/list.conf") == (
            Receiver("127.0.0.1", port, "sesame"),
            Receiver("ml.example.org", 8884, ""),
        )
        with pytest.raises(SourceUnavailable, match="404"):
            receivers_of(f"{base}/other")
        server.shutdown()
    with pytest.raises(BadSettings, match="names none"):
        parse_destinations("# nothing\n")


def test_plugins_are_switched_on_and_off_and_a_bad_one_ends_nothing(receiver):
    troubles: list[str] = []
    monitors = Monitors(lambda name, error: troubles.append(f"{name}: {error}"))
    monitors.apply({"apmon": options(receiver), "nosuch": {}})
    assert monitors.names == ("apmon",)
    monitors.send(REPORT)
    assert xdr.decode(receiver.recv(4096)).node == "here.example.org"
    receiver.recv(4096)
    monitors.apply({"apmon": options(receiver, node="there"), "nosuch": {}})
    monitors.send(REPORT)
    assert xdr.decode(receiver.recv(4096)).node == "there"
    monitors.apply({"apmon": {"url": "apmon://host"}})
    assert monitors.names == ()
    monitors.send(REPORT)
    monitors.close()
    assert len(troubles) == 2  # told once each
    assert "no plug-in has this name; there are apmon" in troubles[0]
    assert "prefix is missing" in troubles[1]


def test_what_a_process_took_is_told_of_all_its_life() -> None:
    """Half a second of work before the figures are looked at for the first time counts as time, too."""
    program = """
import time
while time.process_time() < 0.5:
    pass
from vse.monitor.process import began_s, look
print(look(began_s()).processor_percent)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 110
