"""Legacy lists of ROOT: a TFileCollection in a file, as PROOF kept datasets (seed 002 §4.3.3.1).

uproot knows the classes from the file itself, but for TUrl, which ROOT writes by code of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vse.catalogue.dataset_formats import ListedFile, Listing, split_member
from vse.errors import BadRequest

_STAGED, _CORRUPTED = 1 << 15, 1 << 16
"""TFileInfo::kStaged and kCorrupted."""
_DEFAULT_PORTS = {"root": 1094, "http": 80, "https": 443}
_PORT = struct.Struct(">i")
_COLLECTIONS = ("TFileCollection", "THashList", "TList", "TObjArray")


def read_collection(path: Path, name: str = "") -> Listing:
    """Read the collection ``name`` of a ROOT file, or the only one there is.

    Raises `BadRequest` where there is none, where one must be chosen, and for a broken file.
    """
    import uproot

    wanted = f"read the file collection of {path}"
    try:
        with uproot.open(path, custom_classes={**uproot.classes, "TUrl": _url_model()}) as file:
            kinds = file.classnames(cycle=False)
            there = [key for key, kind in kinds.items() if kind in _COLLECTIONS]
            if name and name not in there:
                raise BadRequest(wanted, f"it holds no {name!r}, but {', '.join(there) or 'none'}")
            if not name and len(there) != 1:
                found = f"it holds several: {', '.join(there)}" if there else "it holds none"
                raise BadRequest(wanted, found, "name one with --key" if there else "")
            name = name or there[0]
            collection = file[name]
            files = list(_files(collection, kinds[name] == "TFileCollection"))
    except BadRequest:
        raise
    except Exception as error:  # uproot raises whatever its reading of a broken file runs into
        raise BadRequest(wanted, f"it cannot be read ({type(error).__name__}: {error})"[:300]) from error
    return Listing(name, iter(files))


def _files(collection: Any, whole: bool) -> Iterator[ListedFile]:
    tree = str(collection.member("fDefaultTree")) if whole and collection.member("fDefaultTree") else ""
    for info in collection.member("fList") if whole else collection:
        if info.classname != "TFileInfo":
            raise BadRequest(f"read a {info.classname}", "it is no TFileInfo")
        yield _file(info, tree)


def _file(info: Any, default: str) -> ListedFile:
    trees = [one for one in info.member("fMetaDataList") or () if one.member("fIsTree")]
    meta = next((one for one in trees if one.member("fName") == default), trees[0] if trees else None)
    size_bytes, entries = int(info.member("fSize")), int(meta.member("fEntries")) if meta is not None else -1
    split = [split_member(str(url)) for url in info.member("fUrlList") or ()]
    return ListedFile(
        tuple(url for url, _ in split),
        next((member for _, member in split if member), ""),
        size_bytes if size_bytes >= 0 else None,
        None,
        meta.member("fName") if meta is not None else default,
        entries if entries >= 0 else None,
        bool(info.member("@fBits") & _CORRUPTED),
        bool(info.member("@fBits") & _STAGED),
    )


def _url(parts: Sequence[str], port: int) -> str:
    """Put a URL together of what a TUrl holds; a password is left out."""
    whole, protocol, user, _, host, file, anchor, options = parts
    if whole:
        return whole
    if host:
        shown_port = f":{port}" if port > 0 and port != _DEFAULT_PORTS.get(protocol) else ""
        file = f"{user}{'@' if user else ''}{host}{shown_port}/{file}"
    url = f"{protocol}://{file}"
    url += f"?{options}" if options else ""
    return f"{url}#{anchor}" if anchor else url


@cache
def _url_model() -> Any:
    """Return uproot's model of TUrl: a TObject, eight strings and the port."""
    import uproot

    class Model_TUrl(uproot.model.Model):  # type: ignore[misc]  # noqa: N801  # uproot takes the class by its name
        def read_members(self, chunk: Any, cursor: Any, context: Any, file: Any) -> None:
            base = uproot.models.TObject.Model_TObject
            self._bases.append(
                base.read(chunk, cursor, context, file, self._file, self._parent, concrete=self.concrete)
            )
            parts = [cursor.string(chunk, context) for _ in range(8)]
            self._text = _url(parts, cursor.field(chunk, _PORT, context))

        def __str__(self) -> str:
            return str(self._text)

    return Model_TUrl
