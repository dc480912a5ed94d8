"""The documentation promises nothing that does not run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from typer.main import get_command

from vse.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
VSE = get_command(app)
SHOWN = re.compile(r"(?:^|[`$ ])vse (?:--site \S+ )?([a-z]+(?:-[a-z]+)*)([^`\n#|>]*)", re.MULTILINE)
"""A command in a text or a block: its first word, and all behind it that is for VSE."""
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def test_the_settings_page_is_that_of_the_code():
    page = runpy.run_path(str(ROOT / "tools/settings_page.py"))["page"]()
    assert (ROOT / "docs/settings.md").read_text() == page, "run tools/settings_page.py > docs/settings.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_shown_exist(page):
    for name, rest in SHOWN.findall(page.read_text()):
        command, words = VSE, [name, *rest.split()]
        while words and words[0].strip(".,:;") in getattr(command, "commands", {}):
            command = command.commands[words.pop(0).strip(".,:;")]
        below = set(getattr(command, "commands", {}))
        if below and words and re.match("[a-z]", words[0]):
            assert words[0] in below, f"{page.name} shows 'vse {name}{rest}'"
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        for option in re.findall(r" (--?[a-z][a-z-]*)", rest):
            assert option in known | {"-h", "--help"}, f"{page.name} shows 'vse {name}{rest}'"


def test_every_make_target_that_is_shown_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"\bmake ([a-z]+)`", page.read_text())) <= targets
