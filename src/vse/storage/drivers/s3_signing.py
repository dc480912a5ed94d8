"""AWS Signature Version 4 for one request whose body is not known yet (payload unsigned).

After AWS' "Authenticating Requests: Using the Authorization Header". The S3 library signs its own requests;
this is for the streamed, conditional PUT that it does not have.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

_UNSIGNED = "UNSIGNED-PAYLOAD"


class Keys(NamedTuple):
    """The name of an access key, and the secret one. Shown as nothing, so that no log can hold them."""

    access: str
    secret: str

    def __repr__(self) -> str:
        return "Keys(...)"


def encoded(path: str) -> str:
    """Return a path as S3 wants it in a URL and in a signature."""
    return quote(path, safe="/~")


def signed(
    method: str, url: str, headers: Mapping[str, str], keys: Keys, region: str, now_s: float
) -> dict[str, str]:
    """Return ``headers`` with what signs them: ``url`` has no query, its path is `encoded`."""
    parts = urlsplit(url)
    moment = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    whole = {**headers, "x-amz-date": moment, "x-amz-content-sha256": _UNSIGNED}
    canonical = {"host": parts.netloc} | {name.lower(): value.strip() for name, value in whole.items()}
    names = ";".join(sorted(canonical))
    lines = [method, parts.path, "", *(f"{name}:{canonical[name]}" for name in sorted(canonical)), ""]
    request = "\n".join([*lines, names, _UNSIGNED])
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode("utf-8")).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for step in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, step.encode("utf-8"), "sha256")
    signature = hmac.digest(key, text.encode("utf-8"), "sha256").hex()
    whole["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return whole
