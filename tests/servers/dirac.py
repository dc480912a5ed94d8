"""A real DIRAC FileCatalog: DIRAC's own service over dips://, with a MariaDB (Debian's) below it.

DIRAC is in an environment of its own, made by tools/clients.sh. The configuration is one file, so that no
Configuration service is needed; the certificates are made for the test. One user, ``tester`` of the group
``dirac_user``, has a proxy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from servers.certificates import make_certificates
from servers.clients import python_of

READY_S = 60.0
_SCHEMA = "DataManagementSystem/DB/FileCatalogDB.sql"
_CONFIGURATION = """
DIRAC
{{
  VirtualOrganization = testvo
  Configuration
  {{
    Name = Test
  }}
  Security
  {{
    UseServerCertificate = no
    CertFile = {place}/host.pem
    KeyFile = {place}/host.key
    CALocation = {place}/cas
  }}
}}
Systems
{{
  DataManagement
  {{
    Databases
    {{
      FileCatalogDB
      {{
        DBName = FileCatalogDB
        Host = 127.0.0.1
        Port = {database_port}
        User = Dirac
        Password = for-the-test
      }}
    }}
    URLs
    {{
      FileCatalog = {url}
    }}
    Services
    {{
      FileCatalog
      {{
        Port = {port}
        Protocol = dips
        SecurityManager = NoSecurityManager
        GlobalReadAccess = True
        UniqueGUID = False
        LFNPFNConvention = {convention}
        Authorization
        {{
          Default = authenticated
        }}
      }}
    }}
  }}
}}
Registry
{{
  DefaultGroup = dirac_user
  Users
  {{
    tester
    {{
      DN = /CN=localhost
    }}
  }}
  Groups
  {{
    dirac_user
    {{
      Users = tester
      Properties = NormalUser, FileCatalogManagement
    }}
  }}
}}
"""
_PROXY = """
import sys
from DIRAC.Core.Security.X509Chain import X509Chain
chain = X509Chain()
for done in (
    chain.loadChainFromFile(sys.argv[1] + "/host.pem"),
    chain.loadKeyFromFile(sys.argv[1] + "/host.key"),
    chain.generateProxyToFile(sys.argv[1] + "/proxy.pem", 86400, diracGroup="dirac_user"),
):
    assert done["OK"], done
"""
_CALL = """
import json, sys
from DIRAC.Core.Base.Script import Script
url, method, *arguments = json.loads(sys.argv.pop())
Script.localCfg.loadUserData()
from DIRAC.Resources.Catalog.FileCatalogClient import FileCatalogClient
done = getattr(FileCatalogClient(url), method)(*arguments)
assert done["OK"], done
assert not done["Value"]["Failed"], done
"""
_MARIADB = ("--no-defaults",)


class DiracServer(NamedTuple):
    """A running service. ``environment`` is what a client of the user ``tester`` needs."""

    url: str
    python: str
    environment: dict[str, str]
    pid: int

    def add_files(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Add files as DIRAC's own client does: ``{lfn: {PFN, SE, Size, GUID, Checksum}}``."""
        self._call("addFile", files)

    def add_replicas(self, copies: Mapping[str, Mapping[str, str]]) -> None:
        """``{lfn: {PFN, SE}}``."""
        self._call("addReplica", copies)

    def remove_files(self, lfns: list[str]) -> None:
        self._call("removeFile", lfns)

    def _call(self, method: str, *arguments: Any) -> None:
        import json

        command = [self.python, "-c", _CALL, json.dumps([self.url, method, *arguments])]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-2000:]

    def stop(self) -> None:
        """Freeze it: connections are taken, and never answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _until(ready: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + READY_S
    while not ready():
        assert process.poll() is None and time.monotonic() < end_s, log.read_text()[-3000:]
        time.sleep(0.05)


@contextmanager
def _started(command: list[str], log: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as words:
        process = subprocess.Popen(command, stdout=words, stderr=words, **more)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _mariadb(place: Path, python: str) -> Iterator[int]:
    """Start a MariaDB with an empty FileCatalogDB; yield its port."""
    data = place / "db"
    data.mkdir()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(data, "mysql", "mysql")
        place.chmod(0o755)
        user = {"user": "mysql"}
    install = ["mariadb-install-db", *_MARIADB, f"--datadir={data}", "--skip-test-db"]
    install += ["--auth-root-authentication-method=normal"]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
    port = _free_port()
    program = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    command = [program, *_MARIADB, f"--datadir={data}", f"--socket={data}/sock", f"--port={port}"]
    command += ["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0"]
    ask = ["mariadb", *_MARIADB, "-u", "root", "-S", f"{data}/sock"]

    def ready() -> bool:
        return subprocess.run([*ask, "-e", "select 1"], capture_output=True).returncode == 0

    with _started(command, place / "mariadb.log", **user) as process:
        _until(ready, process, place / "mariadb.log")
        where = [python, "-c", "import DIRAC; print(DIRAC.__path__[0])"]
        package = subprocess.run(where, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        tables = (Path(package) / _SCHEMA).read_text()
        users = "".join(
            f"CREATE USER 'Dirac'@'{host}' IDENTIFIED BY 'for-the-test';"
            f"GRANT ALL ON FileCatalogDB.* TO 'Dirac'@'{host}';"
            for host in ("localhost", "127.0.0.1", "%")
        )
        script = f"CREATE DATABASE FileCatalogDB; {users}\n{tables}"
        subprocess.run(ask, input=script, text=True, check=True, stdout=subprocess.DEVNULL)
        yield port


@contextmanager
def dirac_server(convention: str = "Weak") -> Iterator[DiracServer]:
    """Start it. ``convention``: LFNPFNConvention; whether URLs of copies are kept (Weak) or not (Strong)."""
    python = python_of("dirac")
    assert python is not None, "no DIRAC for the tests: run sh tools/clients.sh dirac"
    with tempfile.TemporaryDirectory(prefix="vse-dirac-") as directory:
        place = Path(directory)
        certificates = make_certificates(with_rsa=True)
        certificates.write(place)
        certificates.write_directory(place / "cas")
        environment = {
            "DIRAC": directory,
            "DIRACSYSCONFIG": f"{place}/dirac.cfg",
            "X509_CERT_DIR": f"{place}/cas",
            "X509_USER_PROXY": f"{place}/proxy.pem",
            "HOME": directory,
        }
        port = _free_port()
        url = f"dips://localhost:{port}/DataManagement/FileCatalog"
        with _mariadb(place, python) as database_port:
            (place / "dirac.cfg").write_text(
                _CONFIGURATION.format(
                    place=place, port=port, url=url, database_port=database_port, convention=convention
                )
            )
            whole = {**os.environ, **environment}
            subprocess.run(
                [python, "-c", _PROXY, directory], env=whole, check=True, stdout=subprocess.DEVNULL
            )
            service = str(Path(python).with_name("dirac-service"))
            command = [service, "DataManagement/FileCatalog", f"{place}/dirac.cfg"]
            log = place / "service.log"
            with _started(command, log, env=whole) as process:

                def ready() -> bool:
                    return b"Listening at" in log.read_bytes()

                _until(ready, process, log)
                yield DiracServer(url, python, environment, process.pid)
