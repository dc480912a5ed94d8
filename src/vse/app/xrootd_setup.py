"""An xrootd beside the site: its configuration, what it needs, and the programs that it calls."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from vse.app.namespace import local_path
from vse.app.read import fetch
from vse.app.site import Site
from vse.app.stage import StagingJob
from vse.app.xrootd import XrootdOpening, export_of, not_approved
from vse.config.load import FILE_NAME
from vse.doors.xrootd.configuration import CONFIGURATION, Mode, Setup
from vse.errors import BadRequest, BadSettings, GivenUp, Stalled, StorageFault, VseError
from vse.model import FindQuery, Located

_PLUGIN = "libXrdOfsPrepGPI-5.so"
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_WRITTEN = "."
_LOOK_S = 0.5
_CONNECT_S = 2.0


# -- writing it --------------------------------------------------------------------------------------


def setup_for(site: Site, mode: Mode, directory: Path, port: int | None = None) -> Setup:
    """Return what `vse xrootd config` writes into ``directory``; ``port``: that of doors.xrootd.data."""
    door = site.settings.doors.xrootd
    host = door.host
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = socket.getfqdn()
    if mode == "redirect" and not door.port:
        raise BadSettings(
            "write a configuration that redirects", "doors.xrootd.port is 0", "give the redirector a port"
        )
    directory = directory.absolute()
    return Setup(
        mode=mode,
        directory=directory,
        localroot=site.links.root.absolute().parent if mode == "redirect" else directory / "tree",
        export=export_of(site),
        port=port if port is not None else _port_of(door.data),
        redirector=f"{host}:{door.port}",
        vse=(sys.executable, "-m", "vse.cli", "--site", str(site.root.absolute())),
    )


def _port_of(data: str) -> int:
    port = data.rpartition(":")[2]
    if not port.isdigit():
        raise BadSettings(
            "choose the port of xrootd", f"doors.xrootd.data is {data!r}", "write HOST:PORT, or give --port"
        )
    return int(port)


def write_setup(setup: Setup, user: str) -> list[Path]:
    """Write all files, and make the directories that xrootd writes into, owned by ``user`` where we may."""
    try:
        setup.directory.mkdir(parents=True, exist_ok=True)
        for path, (text, mode) in setup.files().items():
            path.write_text(text)
            path.chmod(mode)
        for directory in setup.owned:
            directory.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                account = _account(user)
                os.chown(directory, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise StorageFault(
            f"write the configuration of xrootd to {setup.directory}", error.strerror or str(error)
        ) from error
    return [*setup.files()]


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise BadRequest(
            f"run xrootd as {user!r}", "this machine has no such user", "name another with --user"
        ) from error


# -- checking it -------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """One thing that was looked at; ``todo`` is empty where it is well."""

    what: str
    found: str
    todo: str = ""


def check(site: Site, directory: Path | None, user: str) -> Iterator[Finding]:
    """Look at all that the vMSS needs: programs, rights of ``user``, the two servers.

    Where ``directory`` tells the mode, only at what that needs: with `redirect` xrootd runs no program of
    ours, with `stagecmd` there is no redirector.
    """
    mode = _mode_of(directory)
    yield _program("xrootd", "install Debian's xrootd-server")
    if mode != "redirect":
        yield _program("flock", "install util-linux")
    if mode == "stagecmd":
        yield _plugin()
    try:
        account = _account(user)
    except BadRequest as error:
        yield Finding(f"the user {user}", error.found, error.todo)
        return
    yield Finding(f"the user {user}", "is there")
    yield from _rights(site, directory, account, mode)
    door = site.settings.doors.xrootd
    if mode != "stagecmd":
        yield _server("the redirector", f"{door.host}:{door.port}", "start it: vse serve xrootd")
    if door.data:
        yield _server("the xrootd of doors.xrootd.data", door.data, "start it as vse xrootd config says")


def _mode_of(directory: Path | None) -> Mode | None:
    """Return which mode the configuration in ``directory`` was written for, where that can be told."""
    try:
        text = (directory / CONFIGURATION).read_text() if directory is not None else ""
    except OSError:
        return None
    return next((mode for mode in get_args(Mode) if f"--mode {mode}`" in text), None)


def _plugin() -> Finding:
    found = [path for root in _LIBRARIES for path in Path(root).glob(f"**/{_PLUGIN}")]
    if found:
        return Finding("the plug-in for prepare", str(found[0]))
    return Finding(
        "the plug-in for prepare", f"{_PLUGIN} is missing", "install Debian's xrootd-server-plugins"
    )


def _program(name: str, todo: str) -> Finding:
    path = shutil.which(name)
    return Finding(f"the program {name}", path or "is not installed", "" if path else todo)


def _rights(
    site: Site, directory: Path | None, account: pwd.struct_passwd, mode: Mode | None
) -> Iterator[Finding]:
    """What the user must be able to read and write: xrootd is told nothing where it cannot."""
    readable = [] if mode == "redirect" else [("the settings", site.root / FILE_NAME)]
    if mode != "stagecmd":
        readable.append(("the link tree", site.links.root))
    root = site.destination.local_path(FindQuery().base)
    if root is not None:
        readable.append((f"the storage of {site.destination.name}", root))
    for what, path in readable:
        yield _able(account, what, path, os.R_OK | (os.X_OK if path.is_dir() else 0), "read")
    file = None if mode == "redirect" else site.database_file
    if file is not None:
        yield _able(account, "the database", file, os.R_OK | os.W_OK, "write")
        yield _able(account, "the database's directory", file.parent, os.W_OK | os.X_OK, "write in")
    if directory is not None:
        yield from _directory(directory.absolute(), account)


def _directory(directory: Path, account: pwd.struct_passwd) -> Iterator[Finding]:
    yield _able(account, "the configuration", directory / CONFIGURATION, os.R_OK, "read")
    for name in ("adm", "run", "spool", "tree"):
        if name in ("adm", "run") or (directory / name).exists():
            yield _able(account, f"the directory {name}", directory / name, os.W_OK | os.X_OK, "write in")
    owned = [one for one in (directory, *directory.parents) if _owner(one) == account.pw_uid]
    if owned and account.pw_uid != 0:
        yield Finding(
            "the directories above adm",
            f"{owned[-1]} is {account.pw_name}'s: xrootd closes it to all others (mode 0700)",
            "write the configuration below a directory of another user",
        )


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return -1


def _able(account: pwd.struct_passwd, what: str, path: Path, mode: int, verb: str) -> Finding:
    if not path.exists():
        return Finding(what, f"{path} is missing", "make it, or mend the settings")
    if _may(account, path, mode):
        return Finding(what, str(path))
    todo = f"run xrootd as another user (--user), or let {account.pw_name} {verb} it"
    return Finding(what, f"{account.pw_name} cannot {verb} {path}", todo)


def _may(account: pwd.struct_passwd, path: Path, mode: int) -> bool:
    """Whether a user may use a path: asked of the system, as that user where we are root."""
    if os.geteuid() != 0 or account.pw_uid == 0:
        return os.access(path, mode)
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    letters = "".join(
        letter for letter, bit in (("r", os.R_OK), ("w", os.W_OK), ("x", os.X_OK)) if mode & bit
    )
    tests = " && ".join(f'[ -{letter} "$1" ]' for letter in letters)
    done = subprocess.run(
        ["/bin/sh", "-c", tests, "sh", str(path)],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=groups,
        cwd="/",
        check=False,
    )
    return done.returncode == 0


def _server(what: str, address: str, todo: str) -> Finding:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, ValueError) as error:
        return Finding(what, f"{address} does not answer ({error})", todo)
    return Finding(what, f"answers at {address}")


# -- programs that xrootd calls ------------------------------------------------------------------------


def stage_to(site: Site, path: str, target: Path, *, moving: bool = True, timeout_s: float = 0.0) -> None:
    """Have a file staged, wait for it, and make it appear at ``target``: a link, or a copy.

    ``moving``: move it in this process, unless another stager has begun to. Raises why it did not come,
    `Stalled` after ``timeout_s`` (0: never), when it still may.
    """
    opening = XrootdOpening(site)
    lfn = opening.lfn_of(path)
    query = FindQuery(base=lfn)
    request = opening.request(query)
    job = StagingJob(site, query, request)
    stop = threading.Event()
    if job.is_held:
        raise not_approved(lfn, request)
    if not job.over:
        timer = threading.Timer(timeout_s, stop.set)
        timer.daemon = True
        if timeout_s:
            timer.start()
        if moving:
            job.run(lambda _: None, stop)
        else:
            while not (job.over or stop.wait(_LOOK_S)):
                pass
        timer.cancel()
    status = job.status()
    if status.broken:
        raise status.broken[0].error
    if not status.request.is_over:
        raise Stalled(f"stage {lfn}", f"it has not come within {timeout_s:.0f} s", "ask again: it still may")
    if not status.here_files:
        raise GivenUp(f"stage {lfn}", "its request was cancelled", "open it again to ask anew")
    _appear(site, site.lookup.resolve([lfn]).one(lfn), target)


def _appear(site: Site, file: Located, target: Path) -> None:
    """Put a file at ``target``, whole from the first moment."""
    paths = (local_path(site, replica, file.entry.guid) for replica in file.replicas)
    here = next((path for path in paths if path is not None), None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if here is None:
            fetch(site, file, target, lambda _: None, force=True)
        else:
            partial = target.with_name(f".{target.name}.link-{os.getpid()}")
            partial.symlink_to(here)
            partial.replace(target)
    except OSError as error:
        raise StorageFault(f"make {target} appear", error.strerror or str(error)) from error
    failure_file(target).unlink(missing_ok=True)


def failure_file(target: Path) -> Path:
    """Return where xrootd looks for the reason of a failure."""
    return target.with_name(f"{target.name}.fail")


def write_failure(target: Path, reason: str) -> None:
    """Leave the reason for xrootd, which passes failure on at once instead of trying every 2 s for ever."""
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        failure_file(target).write_text(f"{reason}\n")


def handle_prepare(site: Site, words: Sequence[str]) -> None:
    """Carry out one prepare as xrootd's plug-in writes it: ``NUMBER stage|prep|cancel [PATH ...]``."""
    if len(words) < 2:
        raise BadRequest("prepare files", "there is no request in it", "NUMBER stage PATH ...")
    number, verb, *paths = words
    opening = XrootdOpening(site)
    if verb in ("stage", "prep"):
        opening.prepare(number, paths)
    elif verb == "cancel":
        opening.cancel(number)
    else:
        raise BadRequest(f"carry out {verb!r}", "it is none of stage, prep, cancel and query")


def take_spool(site: Site, spool: Path) -> Iterator[tuple[str, VseError]]:
    """Carry out every prepare that was written down, oldest first; yield those that failed, and why.

    Each is carried out before it is removed: after a kill the next call goes on, and asking twice is asking
    once. What a busy database refuses stays for the next call.
    """
    written = sorted((path.stat().st_mtime_ns, path) for path in spool.glob("*.request"))
    for _, path in written:
        *words, end = path.read_text(errors="surrogateescape").splitlines() or [""]
        if end != _WRITTEN:
            continue
        try:
            handle_prepare(site, words)
        except VseError as error:
            yield " ".join(words[:3]), error
            if error.retryable:
                continue
        path.unlink(missing_ok=True)
