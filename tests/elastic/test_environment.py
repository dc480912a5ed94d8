"""Environment scripts: order, precedence, payload, and what is never shown (seed 002 E.5.1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vse.elastic import environment
from vse.errors import BadSettings

NAMES = sorted({*environment.LOCAL, *environment.REMOTE})


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    system, user = tmp_path / "system", tmp_path / "user"
    for directory in (system, user):
        directory.mkdir()
    return system, user


def append(directory: Path, name: str) -> None:
    (directory / name).write_text(f'export SEEN="$SEEN {directory.name}:{name}"\n')


def seen(script: str) -> str:
    return subprocess.run(
        ["bash", "-s"], input=f"{script}\necho $SEEN", capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_order_is_that_of_the_seed(directories):
    system, user = directories
    for name in NAMES:
        append(user, name)
    (system / "payload").write_text("echo 'export SEEN=payload'\n")
    order = (
        "payload user:common.before user:remote.before user:remote.conf user:common.after user:remote.after"
    )
    assert seen(environment.remote(directories)) == order
    order = "user:common.before user:local.before user:local.conf user:common.after user:local.after"
    assert seen(environment.local(directories)) == order


def test_what_the_site_has_set_no_user_overrides(directories):
    system, user = directories
    append(system, "remote.conf")
    append(user, "remote.conf")
    append(user, "remote.after")
    assert seen(environment.remote(directories)) == "system:remote.conf user:remote.after"


def test_scripts_that_are_nowhere_are_skipped(directories):
    assert seen(environment.remote(directories)) == ""


def test_a_payload_that_fails_is_an_error_that_does_not_show_what_it_printed(directories):
    (directories[1] / "payload").write_text("echo GridProxyBase64=H4sISECRET; exit 3\n")
    with pytest.raises(BadSettings, match="ended with 3") as failed:
        environment.remote(directories)
    assert "SECRET" not in str(failed.value)


def test_a_process_enters_an_environment_that_no_argument_shows():
    argv = environment.enter(
        "export PROXY=s3cret\nfalse\n", [sys.executable, "-c", "import os; print(os.environ['PROXY'])"]
    )
    assert "s3cret" not in " ".join(argv)
    descriptor = int(argv[4].split("/dev/fd/")[1].split(";")[0])
    done = subprocess.run(argv, pass_fds=[descriptor], capture_output=True, text=True, check=True)
    assert done.stdout == "s3cret\n"
