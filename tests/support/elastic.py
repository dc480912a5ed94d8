"""What a worker of a facility is asked, and a proxy to give it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def write_proxy(path: Path, *, valid_s: float = 3600.0) -> bytes:
    """A certificate and its key in one file, as a proxy is."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "proxy")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(seconds=valid_s))
        .sign(key, hashes.SHA256())
    )
    content = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(0o600)
    path.write_bytes(content)
    return content


def environment_of(client: Any) -> dict[str, Any]:
    """Return the environment of a worker, and its proxy, token and their modes."""

    def look() -> dict[str, Any]:
        import os
        import pathlib

        told: dict[str, Any] = dict(os.environ)
        paths = [
            pathlib.Path(told[name]) for name in ("X509_USER_PROXY", "BEARER_TOKEN_FILE") if name in told
        ]
        if len(paths) == 2:
            told["proxy"], told["token"] = (path.read_text() for path in paths)
            told["modes"] = [path.stat().st_mode & 0o777 for path in (*paths, paths[0].parent)]
        return told

    look.__module__ = "__main__"  # sent as code: workers do not have the tests
    return dict(client.submit(look, pure=False).result(timeout=30))
