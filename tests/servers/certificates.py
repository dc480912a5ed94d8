"""A certificate authority for one test run, and a certificate for this machine's loopback names."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """PEM texts of an authority, and of a server's certificate and key for localhost and 127.0.0.1."""

    ca: bytes
    host: bytes
    key: bytes

    def write(self, directory: Path) -> None:
        """Leave ca.pem, host.pem and host.key (for its owner only) in ``directory``."""
        (directory / "ca.pem").write_bytes(self.ca)
        (directory / "host.pem").write_bytes(self.host)
        (directory / "host.key").touch(0o600)
        (directory / "host.key").write_bytes(self.key)

    def write_directory(self, directory: Path, signing_policy: str = "") -> None:
        """Make a directory of trusted authorities as grid software reads it: files named by a hash."""
        directory.mkdir()
        (directory / "ca.pem").write_bytes(self.ca)
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(directory / "ca.pem")]
        name = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
        (directory / "ca.pem").rename(directory / f"{name}.0")
        if signing_policy:
            (directory / f"{name}.signing_policy").write_text(signing_policy)

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority only."""
        return ssl.create_default_context(cadata=self.ca.decode())


_Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_certificates(*, with_rsa: bool = False) -> Certificates:
    """Make a new authority and a certificate, valid from yesterday to tomorrow.

    ``with_rsa``: with keys of that kind, the only ones that Globus can delegate.
    """
    ca_key, host_key = (_new_key(with_rsa) for _ in range(2))
    ca_name, host_name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("Test CA", "localhost")
    )
    now = datetime.now(UTC)

    def signed(subject: x509.Name, key: _Key, is_ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if not is_ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    return Certificates(
        ca=signed(ca_name, ca_key, True).public_bytes(serialization.Encoding.PEM),
        host=signed(host_name, host_key, False).public_bytes(serialization.Encoding.PEM),
        key=host_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _new_key(with_rsa: bool) -> _Key:
    return rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
