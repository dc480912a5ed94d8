"""PROPFIND and OPTIONS, read by an XML parser as Rucio, davix and rclone read them."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote

import pytest

from support.door_site import MakeSite, Site

DAV = "{DAV:}"


def entries(body: bytes) -> dict[str, dict[str, ET.Element]]:
    """Return ``{href: {property: element}}`` in the order of the answer."""
    root = ET.fromstring(body)  # noqa: S314 - it is our own answer
    found = {}
    for response in root:
        assert [child.tag for child in response] == [f"{DAV}href", f"{DAV}propstat"]
        prop, status = response[1]
        assert (prop.tag, status.tag, status.text) == (f"{DAV}prop", f"{DAV}status", "HTTP/1.1 200 OK")
        found[response[0].text or ""] = {element.tag.removeprefix(DAV): element for element in prop}
    return found


@pytest.fixture
def own(make_site: MakeSite) -> Site:
    site = make_site()
    site.ask("PUT", "/data/dir/file.root", b"12345")
    site.ask("PUT", "/data/dir/" + quote("a & <b>#%ü"), b"1")
    site.ask("MKCOL", "/data/dir/sub")
    return site


def test_depth_0(own: Site) -> None:
    answer = own.ask("PROPFIND", "/data/dir/file.root", Depth="0")
    assert answer.status == 207 and answer.headers["content-type"].startswith("application/xml")
    [(href, props)] = entries(answer.body).items()
    assert href == "/data/dir/file.root"
    assert props["displayname"].text == "file.root"
    assert props["getcontentlength"].text == "5"
    assert len(props["resourcetype"]) == 0
    assert props["{LCGDM:}mode"].text == "0100644"
    for date in ("getlastmodified", "creationdate"):
        assert parsedate_to_datetime(props[date].text or "").year >= 2024
    assert "quota-available-bytes" not in props


def test_depth_1_names_the_collection_first(own: Site) -> None:
    found = entries(own.ask("PROPFIND", "/data/dir", Depth="1").body)
    assert next(iter(found)) == "/data/dir/"
    assert {unquote(href) for href in found} == {
        "/data/dir/",
        "/data/dir/file.root",
        "/data/dir/a & <b>#%ü",
        "/data/dir/sub/",
    }
    for href in ("/data/dir/", "/data/dir/sub/"):
        props = found[href]
        assert props["resourcetype"][0].tag == f"{DAV}collection"
        assert int(props["quota-available-bytes"].text or "") > 0
        assert int(props["quota-used-bytes"].text or "") > 0
        assert "getcontentlength" not in props
        assert int(props["{LCGDM:}mode"].text or "", 8) & 0o170000 == 0o040000
    assert entries(own.ask("PROPFIND", "/data/dir").body).keys() == found.keys()


def test_every_href_leads_to_its_file(own: Site) -> None:
    for href in entries(own.ask("PROPFIND", "/data/dir", Depth="1").body):
        assert own.ask("HEAD", href).status == 200
        assert own.ask("PROPFIND", href, Depth="0").status == 207


def test_requests_with_a_body_and_odd_depths(own: Site) -> None:
    asked = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><displayname/></prop></propfind>'
    assert own.ask("PROPFIND", "/data/dir", asked, Depth="0").status == 207
    assert own.ask("PROPFIND", "/data/dir", b"no xml", Depth="0").status == 207
    assert own.ask("PROPFIND", "/data/dir", b"x" * (2 << 20), Depth="0").status == 413
    assert own.ask("PROPFIND", "/data/dir", Depth="infinity").status == 403
    assert own.ask("PROPFIND", "/data/missing", Depth="0").status == 404


@pytest.mark.slow
def test_a_large_directory(own: Site) -> None:
    big = own.root / "big"
    big.mkdir()
    for number in range(10_000):
        (big / f"f{number:05}").touch()
    found = entries(own.ask("PROPFIND", "/data/big/", Depth="1").body)
    assert next(iter(found)) == "/data/big/"
    assert set(found) == {"/data/big/", *(f"/data/big/f{number:05}" for number in range(10_000))}


def test_unfinished_files_are_not_listed(own: Site) -> None:
    (own.root / ".vse-partial" / "x.part").write_bytes(b"half")
    assert list(entries(own.ask("PROPFIND", "/data/", Depth="1").body)) == ["/data/", "/data/dir/"]


def test_options(own: Site) -> None:
    answer = own.ask("OPTIONS", "/data/dir")
    assert (answer.status, answer.headers["dav"]) == (200, "1")
    assert set(answer.headers["allow"].split(", ")) == {
        *("GET", "HEAD", "PROPFIND", "OPTIONS", "PUT", "DELETE", "MKCOL", "MOVE")
    }


@pytest.mark.slow
def test_curl_propfind(own: Site) -> None:
    command = ["curl", "-sS", "--fail", "-X", "PROPFIND", "-H", "Depth: 1"]
    auth = ["-H", f"Authorization: Bearer {own.token}"]
    out = subprocess.run([*command, *auth, f"{own.url}/data/dir/"], check=True, capture_output=True).stdout
    assert len(entries(out)) == 4
