"""A tape behind Debian's XRootD: a directory whose files the server brings to its disk when told to.

The server knows of it by the hooks it has for mass storage: ``oss.rsscmd`` (what is on tape),
``oss.stagecmd`` (bring a file that is opened) and ``ofs.preplib`` (prepare, query and evict), all of them
one small program.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from servers.certificates import Certificates
from servers.xrootd import XrootdServer, xrootd

_PROGRAM = """\
#!/usr/bin/python3 -I
import json, os, shutil, sys
here = os.path.dirname(os.path.realpath(__file__))
tape, disk = here + "/tape", here + "/disk"

def described(path):
    try:
        found = os.stat(tape + path)
    except OSError as error:
        return print(error.errno)
    times = " ".join(str(int(t)) for t in (found.st_atime, found.st_ctime, found.st_mtime))
    print(0)
    print("d" if os.path.isdir(tape + path) else "-", "rw-r--r--", 1, 0, 0, times, found.st_size, 4096, 8)

def bring(path):
    if os.path.isfile(tape + path) and not os.path.isfile(disk + path):
        os.makedirs(os.path.dirname(disk + path), exist_ok=True)
        shutil.copyfile(tape + path, disk + path + ".coming")
        os.rename(disk + path + ".coming", disk + path)

def evict(path):
    if os.path.isfile(tape + path) and os.path.isfile(disk + path):
        os.remove(disk + path)

def state(path):
    on_tape, online = os.path.isfile(tape + path), os.path.isfile(disk + path)
    broken = os.path.isfile(tape + path + ".broken")
    return {"path": path, "path_exists": on_tape or online, "on_tape": on_tape, "online": online,
            "requested": False, "has_reqid": False, "req_time": "",
            "error_text": "the cartridge is torn" if broken else ""}

if "--" in sys.argv:
    request, what, *paths = sys.argv[sys.argv.index("--") + 1:]
    if what == "query":
        print(json.dumps({"request_id": request, "responses": [state(path) for path in paths]}))
    for path in paths:
        {"stage": bring, "evict": evict}.get(what, lambda _: None)(path)
elif sys.argv[1] == "statx":
    described(sys.argv[2])
elif sys.argv[1].startswith("/"):
    bring(sys.argv[1])
else:
    print(95)
"""
_CONFIG = """\
all.export /data stage check dread
oss.rsscmd {program}
oss.stagecmd sync {program}
oss.xfr deny 10 keep 5 4 1g 1 10
ofs.preplib libXrdOfsPrepGPI.so -admit all -maxfiles 1000 -maxreq 64 -run {program}
"""


class TapeServer(NamedTuple):
    """A running server; ``tape`` is the directory of this machine that holds its tape's files."""

    server: XrootdServer
    tape: Path

    def write(self, path: str, data: bytes) -> None:
        """Leave a file on tape; it is not on disk."""
        place = self.tape / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def on_disk(self, path: str) -> bool:
        return (self.server.data.parent / path[1:]).exists()


@contextmanager
def tape(certificates: Certificates) -> Iterator[TapeServer]:
    """Run a server whose tape is empty."""
    directory = Path(tempfile.mkdtemp(prefix="vse-tape-"))
    try:
        directory.chmod(0o755)
        (directory / "tape" / "data").mkdir(parents=True)
        program = directory / "tape.py"
        program.write_text(_PROGRAM)
        program.chmod(0o755)
        with xrootd(certificates, _CONFIG.format(program=program)) as server:
            (directory / "disk").symlink_to(server.data.parent)
            yield TapeServer(server, directory / "tape")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
