"""Where a section's bucket is, its keys, and what its server's errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.s3_signing import Keys

DEFAULT_REGION = "us-east-1"
_CONNECT_S = 10
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")

# obstore's own classes, by name: the library is imported only where a section needs it.
_KINDS: dict[str, type[errors.VseError]] = {
    "FileNotFoundError": errors.NoSuchFile,
    "AlreadyExistsError": errors.AlreadyExists,
    "PermissionDeniedError": errors.Denied,
    "UnauthenticatedError": errors.Denied,
    "NotSupportedError": errors.Unsupported,
    "NotImplementedError": errors.Unsupported,
    "InvalidPathError": errors.BadRequest,
    "ValueError": errors.BadRequest,
}
_STATUSES: dict[int, type[errors.VseError]] = {
    400: errors.BadRequest,
    401: errors.Denied,
    403: errors.Denied,
    404: errors.NoSuchFile,
    408: errors.Stalled,
    409: errors.AlreadyExists,
    411: errors.Unsupported,
    412: errors.AlreadyExists,
    416: errors.SizeMismatch,
    429: errors.SourceUnavailable,
    501: errors.Unsupported,
    503: errors.SourceUnavailable,
    507: errors.StorageFull,
}
_CODES: dict[str, type[errors.VseError]] = {
    "QuotaExceeded": errors.StorageFull,
    "InsufficientStorage": errors.StorageFull,
    "XMinioStorageFull": errors.StorageFull,
    "SlowDown": errors.SourceUnavailable,
    "EntityTooLarge": errors.StorageFull,
    "NotImplemented": errors.Unsupported,
}
_TODO: dict[type[errors.VseError], str] = {
    errors.Denied: "check AccessKeyFile and SecretKeyFile, and what the bucket allows that key",
    errors.StorageFull: "make room there, or send files to another storage element",
}


def of_answer(wanted: str, status: int, text: str) -> errors.VseError:
    """Return the error that an HTTP answer of an S3 server tells of."""
    code = _CODE.search(text)
    name = code.group(1) if code else ""
    kind = _CODES.get(name) or _STATUSES.get(status)
    kind = kind or (errors.ServerFault if status >= 500 else errors.BadRequest)
    found = f"the server answered {status}" + (f" ({name})" if name else "")
    return kind(wanted, found, _TODO.get(kind, ""))


def of_library(wanted: str, error: Exception) -> errors.VseError:
    """Return the error of the tree for one that obstore raised.

    Its text is not passed on: it holds the server's whole answer, which can name the key.
    """
    text = str(error)
    status = _STATUS.search(text)
    if status:
        return of_answer(wanted, int(status.group(1)), text)
    kind = _KINDS.get(type(error).__name__)
    if kind is not None:
        return kind(wanted, "the server's answer says so", _TODO.get(kind, ""))
    if isinstance(error, TimeoutError) or "timed out" in text or "TimedOut" in text:
        return errors.Stalled(wanted, "the server sent nothing for too long")
    if "sending request" in text or "connect" in text.lower():
        return errors.SourceUnavailable(wanted, "no connection to the server")
    return errors.ServerFault(wanted, f"the server's answer cannot be used ({type(error).__name__})")


def library() -> Any:
    """Return the module obstore, imported when first needed; `BadSettings` where it is missing."""
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        todo = "install it: pip install 'virtual-storage-element[s3]'"
        raise errors.BadSettings("use S3", "the library obstore is not installed", todo) from error
    return obstore


@contextmanager
def mapped(wanted: str) -> Iterator[None]:
    """Turn what obstore raises into errors of the tree."""
    try:
        yield
    except errors.VseError:
        raise
    except Exception as error:  # obstore's classes, and the built-in ones it chose
        raise of_library(wanted, error) from None


class Bucket:
    """The bucket of a section: `endpoint`, `name`, and where paths are in it.

    With the option Bucket, a path is a key; without it the first part of Path is the bucket, as in DIRAC.
    """

    def __init__(self, section: ProtocolSettings, no_progress_s: float) -> None:
        self._section = section
        self._no_progress_s = no_progress_s
        wanted = f"use the protocol section {section.section!r}"
        if not section.host:
            raise errors.BadSettings(wanted, "it has no Host", "give the server's name")
        self._in_path = not section.bucket
        self.name = section.bucket or section.path.strip("/").partition("/")[0]
        if not self.name:
            found = "neither Bucket nor the first part of Path names a bucket"
            raise errors.BadSettings(wanted, found, "write Path = /BUCKET, or Bucket = BUCKET")
        self.transport = "https" if section.secure_connection else "http"
        host = f"[{section.host}]" if ":" in section.host.strip("[]") else section.host
        self.netloc = f"{host}:{section.port}" if section.port else host
        self.endpoint = f"{self.transport}://{self.netloc}"
        self.region = section.region or DEFAULT_REGION

    @property
    def keys(self) -> Keys | None:
        """The credentials, read anew each time: from the files first; None for an open bucket."""
        section = self._section
        access = _secret(section.access_key_file, section.aws_access_key_id, "AccessKeyFile")
        secret = _secret(section.secret_key_file, section.aws_secret_access_key, "SecretKeyFile")
        return Keys(access, secret) if access and secret else None

    def key(self, path: str) -> str:
        """Return the key of a path, empty for the bucket itself; `BadRequest` for another bucket's."""
        if not self._in_path:
            return path.strip("/")
        bucket, _, key = path.lstrip("/").partition("/")
        if bucket != self.name:
            raise errors.BadRequest(f"find {path}", f"it is not in the bucket {self.name}")
        return key.rstrip("/")

    def path(self, key: str) -> str:
        return f"/{self.name}/{key}".rstrip("/") if self._in_path else f"/{key}"

    def store(self) -> Any:
        """Return the library's client."""
        keys = self.keys
        given: dict[str, Any] = {}
        if keys:
            given = {"access_key_id": keys.access, "secret_access_key": keys.secret}
        return library().store.S3Store(
            self.name,
            endpoint=self.endpoint,
            region=self.region,
            virtual_hosted_style_request=False,
            skip_signature=keys is None,
            retry_config={"max_retries": 0},
            client_options={
                "allow_http": not self._section.secure_connection,
                "connect_timeout": timedelta(seconds=min(_CONNECT_S, self._no_progress_s)),
                "timeout": timedelta(seconds=self._no_progress_s),
            },
            **given,
        )


def _secret(file: Path | None, given: SecretStr | None, option: str) -> str:
    if file is None:
        return given.get_secret_value() if given else ""
    wanted = f"read the {option} {file}"
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "it is not plain text"
        raise errors.Denied(wanted, found, "put the storage's key there") from error
    if not text:
        raise errors.Denied(wanted, "it is empty", "put the storage's key there")
    return text
