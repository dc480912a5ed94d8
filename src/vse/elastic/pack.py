"""The pack: what a worker or client must have to reach the scheduler, and the directory it is kept in.

One key pair is made for each facility, and both ends of every connection show it: who does not hold the pack
can neither join nor ask. The directory is the user's own (0700), the files in it are 0600.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vse.errors import BadSettings, Denied, WorkersLost

STATE_VARIABLE = "VAF_STATE"
VALID = timedelta(days=365)
CLOCKS_BEHIND = timedelta(days=1)
"""A worker whose clock is behind takes a key that was just made for one of the future, and cannot join."""


@dataclass(frozen=True, slots=True)
class Pack:
    """``address`` as ``tls://host:port``; the certificate is its own authority, both are PEM."""

    name: str
    address: str
    certificate: str
    key: str = field(repr=False)

    def security(self) -> Any:
        """Return the `distributed.Security` of every role."""
        from distributed import Security

        certificate, key = self.certificate, self.key
        return Security(
            require_encryption=True,
            tls_ca_file=certificate,
            tls_client_cert=certificate,
            tls_client_key=key,
            tls_scheduler_cert=certificate,
            tls_scheduler_key=key,
            tls_worker_cert=certificate,
            tls_worker_key=key,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Pack:
        return cls(**json.loads(text))


def make_pack(name: str) -> Pack:
    """Return a pack with a new key and no address yet; it holds for a year, and for clocks a day behind."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCKS_BEHIND)
        .not_valid_after(now + VALID)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pack(name, "", certificate.public_bytes(serialization.Encoding.PEM).decode(), pem.decode())


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Where a user's facility keeps its pack, decisions and logs."""

    path: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> StateDirectory:
        """The directory VAF_STATE names, or ``vse/vaf`` in the user's state directory."""
        named = environment.get(STATE_VARIABLE)
        base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
        return cls(Path(named).absolute() if named else Path(base) / "vse" / "vaf")

    @property
    def pack(self) -> Path:
        return self.path / "pack.json"

    @property
    def decisions(self) -> Path:
        return self.path / "decisions.json"

    @property
    def orders(self) -> Path:
        return self.path / "orders.json"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def jobs_logs(self) -> Path:
        return self.path / "jobs"

    def ensure(self) -> None:
        """Make it, for its owner only. Raises `Denied` where it is another's or open to others."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.path.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            found = f"it is user {status.st_uid}'s, with mode {status.st_mode & 0o777:o}"
            todo = f"close it: chmod 700 {self.path}"
            raise Denied(f"keep the key of a facility in {self.path}", found, todo)
        self.jobs_logs.mkdir(mode=0o700, exist_ok=True)

    def read_pack(self) -> Pack:
        """Raises `WorkersLost` where no facility was started."""
        try:
            return Pack.from_json(self.pack.read_bytes())
        except FileNotFoundError as error:
            todo = "start one: vse vaf start"
            raise WorkersLost("reach your analysis facility", "none was started", todo) from error
        except (ValueError, TypeError) as error:
            todo = "remove it and start anew: vse vaf start"
            raise BadSettings(f"read {self.pack}", str(error), todo) from error

    def write(self, path: Path, text: str) -> None:
        """Replace a file of the directory in one step; it is its owner's only from its first byte."""
        new = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
