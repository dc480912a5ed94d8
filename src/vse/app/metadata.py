"""Tags and finding by them, with the upstreams behind the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vse.app.site import Site
from vse.catalogue.belief import LookupReport
from vse.catalogue.globs import matcher
from vse.errors import BadQuery, BadRequest
from vse.model import BulkResult, DatasetQuery, Identity, Lfn, Located
from vse.model.query import FindQuery
from vse.model.tags import TagDefinition, TagType


def find(
    site: Site, query: DatasetQuery, condition: str = "", name: str = ""
) -> tuple[Iterator[Located], LookupReport]:
    """Return those files that a query means that meet a condition and a glob on the name.

    Upstreams are asked first, as for any query. Raises `BadQuery`; the report is whole when all files were
    taken.
    """
    if "/" in name:
        raise BadQuery(f"find by the name {name!r}", "it matches the last part of a name; it cannot hold '/'")
    if name and isinstance(query, FindQuery) and query.pattern == "*":
        query, name = replace(query, pattern=name), ""
    if condition and isinstance(query, FindQuery):
        found, report = site.lookup.find_with_report(query.base, query.pattern)
        found = site.metadata.find(query.base, query.pattern, condition)
    else:
        selection = site.selector.select(query)
        found, report = (selected.located for selected in selection.files), selection.report
        if condition:
            found = site.metadata.among(found, condition)
    if name:
        matches = matcher(name)
        found = (located for located in found if matches(located.entry.lfn.name))
    return found, report


def is_lfn(word: str) -> bool:
    """Whether a word of a command is a name of the catalogue, not a tag or a value."""
    return word.startswith(("/", "lfn:", "alien:"))


def split_assignments(words: Sequence[str]) -> tuple[list[Lfn], dict[str, str]]:
    """Return the names and the ``TAG=VALUE`` of a command; raise `BadRequest` for what is neither."""
    lfns, values = [], {}
    for word in words:
        tag, equals, value = word.partition("=")
        if is_lfn(word):
            lfns.append(Lfn.parse(word))
        elif equals and tag:
            values[tag] = value
        else:
            todo = "give names (/lhc/...) and values (run=195682)"
            raise BadRequest(f"use {word!r}", "it is neither a name nor TAG=VALUE", todo)
    return lfns, values


def read_definitions(directory: Lfn, words: Sequence[str], note_words: Sequence[str]) -> list[TagDefinition]:
    """Return the definitions that ``TAG=TYPE`` and ``TAG=TEXT`` make; raise `BadRequest`."""
    (others, types), (_, notes) = split_assignments(words), split_assignments(note_words)
    if others:
        raise BadRequest(f"define tags for {others[0]}", f"only one directory is possible, here {directory}")
    known = ", ".join(TagType)
    for name in notes.keys() - types.keys():
        raise BadRequest(f"note what {name} means", "it is not among the tags defined here")
    definitions = []
    for name, kind in types.items():
        if kind not in [*TagType]:
            raise BadRequest(f"define the tag {name}", f"{kind!r} is no type of a tag", f"there are: {known}")
        definitions.append(TagDefinition(name, TagType(kind), directory, notes.get(name, "")))
    return definitions


def set_tags(site: Site, lfns: Sequence[Lfn], values: Mapping[str, str]) -> BulkResult[None]:
    """Tag names, those too that only an upstream knows yet; see `vse.catalogue.metadata.Metadata.set`."""
    me = Identity.of_process()
    site.lookup_for(me).stat(lfns)
    return site.metadata_for(me).set(lfns, values)
