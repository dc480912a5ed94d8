"""Apache's mod_dav and nginx's WebDAV as servers for tests.

Debian packages: apache2-bin; nginx-extras (or nginx-light with libnginx-mod-http-dav-ext).
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.certificates import Certificates, make_certificates
from servers.xrootd import free_port

READY_S = 20.0
_APACHE_MODULES = "/usr/lib/apache2/modules"
_APACHE = """\
ServerRoot "{directory}"
ServerName localhost
Listen 127.0.0.1:{port}
PidFile "{directory}/run/pid"
ErrorLog "{directory}/run/log"
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule autoindex_module {modules}/mod_autoindex.so
LoadModule dav_module {modules}/mod_dav.so
LoadModule dav_fs_module {modules}/mod_dav_fs.so
{user}
DocumentRoot "{directory}/root"
TypesConfig /dev/null
DavLockDB "{directory}/run/locks"
SSLEngine on
SSLCertificateFile "{directory}/host.pem"
SSLCertificateKeyFile "{directory}/host.key"
SSLSessionTickets off
<Directory "{directory}/root">
    Require all granted
    Dav On
</Directory>
"""
_NGINX = """\
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
pid {directory}/run/pid;
error_log {directory}/run/log;
daemon off;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/root/.body;
    proxy_temp_path {directory}/run/proxy;
    fastcgi_temp_path {directory}/run/fastcgi;
    uwsgi_temp_path {directory}/run/uwsgi;
    scgi_temp_path {directory}/run/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/root;
        {extra}
        location /.body {{ deny all; }}
        location / {{
            dav_methods PUT DELETE MKCOL COPY MOVE;
            dav_ext_methods PROPFIND OPTIONS;
            dav_access user:rw group:r all:r;
            create_full_put_path on;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class WebdavServer:
    """A running server. ``data`` is the directory of this machine that it exports as ``/data``."""

    scheme: str
    port: int
    data: Path
    certificates: Certificates
    user: str

    @property
    def root(self) -> Path:
        """What is above ``data``, on the same file system: bodies under way are here, too (nginx)."""
        return self.data.parent

    def lay_out(self) -> None:
        """Make the directories that are served, for the server's user; again, if another disk is there."""
        for directory in (self.root, self.data, self.root / ".body"):
            directory.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                owner = pwd.getpwnam(self.user)
                os.chown(directory, owner.pw_uid, owner.pw_gid)


@contextmanager
def apache() -> Iterator[WebdavServer]:
    """Run Apache with mod_dav over TLS."""
    with _running(
        "/usr/sbin/apache2", "apache2-bin", _APACHE, ["-D", "FOREGROUND", "-f"], "https", "www-data"
    ) as server:
        yield server


@contextmanager
def nginx(extra: str = "") -> Iterator[WebdavServer]:
    """Run nginx with its dav and dav-ext modules, without TLS; ``extra`` are lines for its configuration."""
    module = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")
    assert module.exists(), f"{module} is missing: install Debian's libnginx-mod-http-dav-ext"
    with _running("/usr/sbin/nginx", "nginx-extras", _NGINX, ["-c"], "http", "www-data", extra) as server:
        yield server


@contextmanager
def _running(
    program: str, package: str, config: str, arguments: list[str], scheme: str, user: str, extra: str = ""
) -> Iterator[WebdavServer]:
    assert shutil.which(program), f"{program} is missing: install Debian's {package}"
    directory = Path(tempfile.mkdtemp(prefix="vse-webdav-"))
    directory.chmod(0o755)
    process = None
    try:
        (directory / "run").mkdir()
        certificates = make_certificates()
        certificates.write(directory)
        as_user = ""
        if os.geteuid() == 0:
            owner = pwd.getpwnam(user)
            os.chown(directory / "run", owner.pw_uid, owner.pw_gid)
            as_user = f"User {user}\nGroup {user}" if scheme == "https" else f"user {user};"
        port = free_port()
        server = WebdavServer(scheme, port, directory / "root" / "data", certificates, user)
        server.lay_out()
        path = directory / "server.conf"
        path.write_text(
            config.format(directory=directory, port=port, user=as_user, modules=_APACHE_MODULES, extra=extra)
        )
        process = subprocess.Popen(
            [program, *arguments, str(path)],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(directory / "run" / "stderr").open("wb"),
        )
        _await(port, process, directory / "run")
        yield server
    finally:
        if process is not None:
            process.terminate()
            process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


def _await(port: int, process: subprocess.Popen[bytes], logs: Path) -> None:
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    said = "\n".join(path.read_text(errors="replace") for path in logs.glob("*") if path.is_file())
    raise AssertionError(f"the server did not start:\n{said[-3000:]}")
