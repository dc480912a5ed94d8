"""The configuration of an xrootd (Debian's 5.5) that stages what is missing, and the programs it runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["stagecmd", "redirect"]
CONFIGURATION = "xrootd.cfg"

_COMMON = """\
# Written by `vse xrootd config --mode {mode}`; written anew by the same command.
xrd.port {port}
all.adminpath {directory}/adm
all.pidpath {directory}/run
oss.localroot {localroot}
xrootd.chksum max 2 adler32
"""

_REDIRECT = """\
# The link tree. Never export it for writing: a removal would follow the link and remove the file itself.
all.export {export} r/o
# What is not in it (or was evicted) is staged by the redirector, which sends the client back here.
xrootd.redirect {redirector} ? {export}
xrootd.redirect {redirector} prepare
"""

_STAGECMD = """\
# A tree of links of its own; one program a file brings what is missing.
all.export {export} stage r/o
oss.stagecmd sync {directory}/stage
# A failure is told again for 10 s before the next try. 4 files at a time; the last three numbers make an
# open answer as soon as its file is there (with the defaults it takes a minute).
oss.xfr deny 10 keep 5 4 1g 1 10
"""

_PREPARE = """\
ofs.preplib libXrdOfsPrepGPI.so -admit cancel,prep,query,stage -maxfiles 1000 -maxreq 64 \
-run {directory}/prepare
"""

_STAGE_PROGRAM = """\
#!/bin/sh
# xrootd calls it with the name of a missing file and the path where it is to appear.
exec {vse} xrootd stage "$1" "$2"
"""

_PREPARE_PROGRAM = """\
#!/bin/sh
# xrootd calls it for each prepare: [options] -- NUMBER stage|prep|query|cancel [PATH ...]
# It loses requests while 64 of its programs run. So this one writes a request down and ends at once; one
# process at a time takes what was written down, and at most one more waits to do so.
spool={spool}
if [ "$1" = take ]; then
    (
        flock -n 8 || exit 0
        flock 9
        flock -u 8
        exec {vse} xrootd prepare --spool "$spool"
    ) 8>"$spool/waiting" 9>"$spool/lock" </dev/null >>"$spool/log" 2>&1 &
    exit 0
fi
while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
shift
if [ "$2" = query ]; then
    if [ -n "$(find "$spool" -name '*.request' -print -quit)" ]; then
        exec flock "$spool/lock" {vse} xrootd prepare --spool "$spool" -- "$@"
    fi
    exec {vse} xrootd prepare -- "$@"
fi
# Builtins only, for speed; the last line says that all is written.
number=0
set -C
until {{ printf '%s\\n' "$@" . > "$spool/$$-$number.request"; }} 2>/dev/null; do
    [ -w "$spool" ] && [ $number -lt 1000 ] || exit 1
    number=$((number + 1))
done
set +C
# Who waits already takes this one as well; else somebody begins to, in a session of its own: xrootd kills
# what is left of this one.
flock -n "$spool/waiting" true || exit 0
exec setsid --wait "$0" take
"""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the files are made from. ``vse`` is the command line that runs vse for this site.

    ``export``: the path below which clients see LFNs; ``localroot``: the directory that holds it;
    ``redirector``: ``host:port`` of ours, for the mode of that name.
    """

    mode: Mode
    directory: Path
    localroot: Path
    export: str
    port: int
    redirector: str
    vse: Sequence[str]

    @property
    def configuration(self) -> Path:
        return self.directory / CONFIGURATION

    @property
    def owned(self) -> tuple[Path, ...]:
        """The directories that xrootd writes into."""
        more = ("spool", "tree") if self.mode == "stagecmd" else ()
        return tuple(self.directory / name for name in ("adm", "run", *more))

    def files(self) -> dict[Path, tuple[str, int]]:
        """Return each file to be written: its text and its mode."""
        template = _COMMON + (_REDIRECT if self.mode == "redirect" else _STAGECMD + _PREPARE)
        text = template.format(
            mode=self.mode,
            directory=self.directory,
            localroot=self.localroot,
            export=self.export,
            port=self.port,
            redirector=self.redirector,
        )
        files = {self.configuration: (text, 0o644)}
        if self.mode == "stagecmd":
            vse, spool = shlex.join(self.vse), shlex.quote(str(self.directory / "spool"))
            files[self.directory / "stage"] = (_STAGE_PROGRAM.format(vse=vse), 0o755)
            files[self.directory / "prepare"] = (_PREPARE_PROGRAM.format(vse=vse, spool=spool), 0o755)
        return files

    def command(self, user: str) -> list[str]:
        """Return how xrootd is started; ``user`` where root starts it for another.

        Not by its own ``-R``: that leaves the real user root, and so the shell programs it calls.
        """
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        log = self.directory / "run" / "log"
        return [*as_user, "xrootd", "-l", str(log), "-c", str(self.configuration)]
