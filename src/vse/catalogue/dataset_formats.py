"""Lists of files, as datasets come in and go out.

- ``jsonl``: one JSON object a line with everything VSE knows; nothing is lost on the way out and in.
- ``text``: one file a line, as ROOT's ``TFileCollection::AddFromFile`` reads it: URLs, then ``sz:BYTES`` and
  ``tree:NAME,ENTRIES``; '#' begins a comment. A plain list of names or URLs is one too.
- ``coffea``: a fileset of coffea, ``{dataset: {"files": {url: tree}}}`` or ``{dataset: [url, ...]}``.
- ``root``: a ROOT file with a TFileCollection, or a list of TFileInfo (in only; `dataset_root`).

``jsonl`` and ``text`` are streamed; a fileset and a ROOT file are read whole, and written as they come.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from vse.errors import BadRequest, cannot_read
from vse.model import Checksum

FORMATS = ("jsonl", "text", "coffea", "root")
_GZIP, _ROOT = b"\x1f\x8b", b"root\0"  # a list of root:// URLs has a ":" there


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as a list tells of it. ``urls`` in its order, names of the catalogue or URLs of any protocol;
    None is 'not told'. ``member``: the one of a zip archive that is meant."""

    urls: tuple[str, ...]
    member: str = ""
    size_bytes: int | None = None
    adler32: int | None = None
    tree: str = ""
    entries: int | None = None
    corrupt: bool = False
    staged: bool = False
    """Of a TFileCollection: it was at the site that the list was written at."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one list. ``name``: what the list calls itself, if it does."""

    name: str
    files: Iterator[ListedFile]


def read_list(path: Path, kind: str = "", name: str = "") -> Listing:
    """Read a list; its format is told by ``kind`` or found by looking. ``name`` chooses one of several.

    Raises `BadRequest` that says where (the line) the list is wrong: at once, or as the files are taken.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_ROOT))
        kind = kind or _kind(path, head)
        if kind == "root":
            from vse.catalogue.dataset_root import read_collection

            return read_collection(path, name)
        if kind == "coffea":
            return _fileset(path, name)
    except OSError as error:
        raise cannot_read(f"read {path}", error) from error
    lines = {"jsonl": _json_lines, "text": _text_lines}.get(kind)
    if lines is None:
        raise BadRequest(
            f"read {path} as {kind!r}", f"there is no such format; there are {', '.join(FORMATS)}"
        )
    return Listing("", lines(path))


def _kind(path: Path, head: bytes) -> str:
    if head == _ROOT:
        return "root"
    with _opened(path) as file:
        first = file.readline(65536).lstrip()
    if not first.startswith("{"):
        return "text"
    try:
        value = json.loads(first)
    except ValueError:
        return "coffea"
    return "jsonl" if isinstance(value.get("lfn"), str) else "coffea"


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    opened: Any = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115  # closed by its reader
    return io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each line that says something, with its number."""
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                line.encode()  # raises where bytes were no UTF-8
                if line.strip() and not line.lstrip().startswith("#"):
                    yield number, line.strip()
    except UnicodeEncodeError as error:
        raise _bad(path, number, "it is no text in UTF-8") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise _bad(path, number + 1, f"the file is broken ({error})") from error
    except OSError as error:
        raise cannot_read(f"read {path}", error) from error


def _bad(path: Path, line: int, found: str) -> BadRequest:
    return BadRequest(f"read the list {path}", f"line {line}: {found}", "nothing was kept of it")


# -- text --------------------------------------------------------------------------------------------


def _text_lines(path: Path) -> Iterator[ListedFile]:
    for number, line in _lines(path):
        try:
            yield text_line(line)
        except ValueError as error:
            raise _bad(path, number, str(error)) from error


def text_line(line: str) -> ListedFile:
    """Read one line of a list of text; raises ValueError."""
    urls: list[str] = []
    member = ""
    told: dict[str, Any] = {}
    for word in line.split():
        key, colon, value = word.partition(":")
        if colon and key == "sz":
            told["size_bytes"] = _count(word, value)
        elif colon and key in ("tree", "obj"):
            told.update(_tree(word, value))
        elif colon and key in ("md5", "uuid", "idx"):
            continue
        elif word.startswith("/") or (colon and value.startswith("/")):
            url, member = split_member(word)
            urls.append(url)
        elif line.startswith("/"):  # a name with blanks in it
            return ListedFile(*_alone(line))
        else:
            raise ValueError(f"{word!r} is no URL, no name that starts with '/', and no sz: or tree:")
    if not urls:
        raise ValueError("it names no file")
    return ListedFile(tuple(urls), member, **told)


def split_member(url: str) -> tuple[str, str]:
    """Take the member off a URL or name: ``...zip#MEMBER``, or ``zip://MEMBER::...`` as fsspec has it.

    In a name of the catalogue that is no zip archive, '#' is a character like any other.
    """
    if url.startswith("zip://") and "::" in url:
        member, _, location = url.removeprefix("zip://").partition("::")
        return location, member
    location, mark, member = url.rpartition("#")
    if mark and ("://" in url or location.endswith(".zip")):
        return location, member
    return url, ""


def _alone(url: str) -> tuple[tuple[str, ...], str]:
    location, member = split_member(url)
    return (location,), member


def _tree(word: str, value: str) -> dict[str, Any]:
    name, *rest = value.split(",")
    counts = [one for one in rest if one.lstrip("-").isdigit()]
    entries = _count(word, counts[0]) if counts else None
    return {"tree": name, "entries": entries}


def _count(word: str, value: str) -> int | None:
    try:
        number = int(value)
    except ValueError:
        raise ValueError(f"{word!r} should hold a number") from None
    return number if number >= 0 else None


# -- JSON --------------------------------------------------------------------------------------------


def _json_lines(path: Path) -> Iterator[ListedFile]:
    for number, line in _lines(path):
        try:
            yield _from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, BadRequest) as error:
            found = error.found if isinstance(error, BadRequest) else f"{type(error).__name__}: {error}"
            raise _bad(path, number, found) from error


def _from_json(value: Mapping[str, Any]) -> ListedFile:
    urls = [str(value[key]) for key in ("lfn", "source_url") if value.get(key) or key == "lfn"]
    checksum = Checksum.parse(value["checksum"]) if value.get("checksum") else None
    adler32 = int(checksum.value, 16) if checksum and checksum.algorithm == "adler32" else None
    numbers = [value.get(key) for key in ("size_bytes", "entries")]
    if not all(one is None or (isinstance(one, int) and one >= 0) for one in numbers):
        raise TypeError("size_bytes and entries are whole numbers, or null")
    return ListedFile(
        (urls[0], *(split_member(url)[0] for url in urls[1:])),
        str(value.get("member") or ""),
        numbers[0],
        adler32,
        str(value.get("tree") or ""),
        numbers[1],
        bool(value.get("corrupt")),
    )


def _fileset(path: Path, name: str) -> Listing:
    wanted = f"read the fileset {path}"
    try:
        with _opened(path) as file:
            value = json.load(file)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise BadRequest(wanted, f"it is no JSON ({error})") from error
    todo = "a fileset is {dataset: {'files': {url: tree}}} or {dataset: [url, ...]}"
    if not isinstance(value, dict) or not value:
        raise BadRequest(wanted, "it is no JSON object that names datasets", todo)
    if not name and len(value) > 1:
        raise BadRequest(wanted, f"it holds several: {', '.join(value)}", "name one with --key")
    name = name or next(iter(value))
    if name not in value:
        raise BadRequest(wanted, f"it holds no {name!r}, but {', '.join(value)}")
    files = value[name]
    tree = ""
    if isinstance(files, dict) and isinstance(files.get("files"), dict | list):
        tree, files = str(files.get("treename") or ""), files["files"]
    if not isinstance(files, dict | list):
        raise BadRequest(wanted, f"{name!r} is no list of files, and has none under 'files'", todo)
    pairs = files.items() if isinstance(files, dict) else ((url, None) for url in files)
    return Listing(name, (_fileset_entry(wanted, str(url), about, tree) for url, about in pairs))


def _fileset_entry(wanted: str, url: str, about: Any, tree: str) -> ListedFile:
    if about is None or isinstance(about, str):
        return ListedFile(*_alone(url), tree=about or tree)
    if not isinstance(about, dict):
        raise BadRequest(wanted, f"of {url} it tells {about!r}, which is no tree and no object")
    entries = about.get("num_entries")
    size_bytes = about.get("size_bytes")
    return ListedFile(
        *_alone(url),
        size_bytes if isinstance(size_bytes, int) else None,
        tree=str(about.get("object_path") or tree),
        entries=entries if isinstance(entries, int) else None,
    )


# -- writing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutFile:
    """A file to be written to a list: by which ``url``, and with which JSON form."""

    url: str
    size_bytes: int | None
    tree: str
    entries: int | None
    json: Mapping[str, object]


def write_list(kind: str, name: str, files: Iterable[OutFile], out: IO[str]) -> int:
    """Write a list as the files come; return how many."""
    writers = {"jsonl": _write_json_lines, "text": _write_text, "coffea": _write_fileset}
    if kind not in writers:
        found = f"lists are written as {', '.join(writers)}"
        todo = (
            "a TFileCollection is made from a text list in ROOT: see docs/datasets.md"
            if kind == "root"
            else ""
        )
        raise BadRequest(f"write the list as {kind!r}", found, todo)
    return writers[kind](name, files, out)


def _write_json_lines(_: str, files: Iterable[OutFile], out: IO[str]) -> int:
    count = 0
    for file in files:
        out.write(json.dumps(file.json, ensure_ascii=False) + "\n")
        count += 1
    return count


def _write_text(_: str, files: Iterable[OutFile], out: IO[str]) -> int:
    count = 0
    for file in files:
        words = [file.url.replace(" ", "%20") if "://" in file.url else file.url]
        if file.size_bytes is not None and " " not in words[0]:
            words.append(f"sz:{file.size_bytes}")
        if file.tree and " " not in words[0] + file.tree:
            words.append(f"tree:{file.tree}" + ("" if file.entries is None else f",{file.entries}"))
        out.write(" ".join(words) + "\n")
        count += 1
    return count


def _write_fileset(name: str, files: Iterable[OutFile], out: IO[str]) -> int:
    count = 0
    out.write(f'{{{json.dumps(name)}: {{"files": {{')
    for file in files:
        out.write(
            f"{',' if count else ''}\n  {json.dumps(_for_uproot(file.url))}: {json.dumps(file.tree or None)}"
        )
        count += 1
    out.write('\n}, "metadata": {}}}\n')
    return count


def _for_uproot(url: str) -> str:
    """Return a URL as uproot (and so coffea) opens it: members of archives through fsspec."""
    location, mark, member = url.partition("#")
    if location.startswith("file:///"):
        location = unquote(urlsplit(location).path)
    return f"zip://{member}::{location}" if mark else location
