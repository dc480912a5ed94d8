"""Events are lines of JSON that hold no secret."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from vse.errors import Denied
from vse.model import Lfn
from vse.monitor.events import Events, safe


@pytest.fixture
def lines():
    out = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    structlog.reset_defaults()


def test_a_line_has_its_ids_and_an_error_its_parts(lines):
    events = Events(service="s1")
    error = Denied("read /a", "https://x/y?authz=SECRET&z=1 said no", "ask")
    events.tell("transfer.failed", error, transfer=3, lfn=Lfn("/a"), source=None)
    (line,) = lines()
    assert line["event"] == "transfer.failed"
    assert (line["level"], line["service"], line["transfer"], line["lfn"]) == ("warning", "s1", 3, "/a")
    assert line["error"]["code"] == "denied"
    assert "source" not in line
    assert "SECRET" not in json.dumps(line)
    assert "z=1" in line["error"]["found"]


def test_switched_off_nothing_is_told(lines):
    Events(enabled=False).tell("transfer.done", transfer=1)
    assert lines() == []


@pytest.mark.parametrize(
    "text",
    [
        "apmon://:SECRET@host:8884",
        "https://user:SECRET@host/x",
        "https://h/x?access_token=SECRET",
        "https://h/x?a=1&X-Amz-Signature=SECRET",
        "root://h//x?authz=SECRET",
        "Authorization: Bearer SECRET",
    ],
)
def test_secrets_are_taken_out(text):
    assert "SECRET" not in safe(text)
    assert safe("root://host//alice/a@b/c.root?x=1") == "root://host//alice/a@b/c.root?x=1"
