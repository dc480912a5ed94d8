"""A certificate authority for one test run, and a certificate for this machine's loopback names."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
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

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority only."""
        return ssl.create_default_context(cadata=self.ca.decode())


def make_certificates() -> Certificates:
    """Make a new authority and a certificate, valid from yesterday to tomorrow."""
    ca_key, host_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, host_name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("Test CA", "localhost")
    )
    now = datetime.now(UTC)

    def signed(subject: x509.Name, key: ec.EllipticCurvePrivateKey, is_ca: bool) -> x509.Certificate:
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
