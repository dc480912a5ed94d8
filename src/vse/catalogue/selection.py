"""Which files a dataset query means: finds asked of the catalogue in bulk, or the rows of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vse.catalogue.conventions import Part, parts_of, variant_of
from vse.catalogue.datasets import Datasets, in_chunks
from vse.catalogue.lookup import Lookup, LookupReport
from vse.catalogue.port import Names
from vse.config.settings import DatasetSettings
from vse.errors import BadQuery, CatalogueError, NotFound
from vse.model import (
    Dataset,
    DatasetFile,
    DatasetQuery,
    FindQuery,
    Lfn,
    Located,
    NamedQuery,
    OfficialQuery,
    Selected,
)
from vse.model.dataset import as_selected

_MOST_NAMES = 8
Widened = Callable[[Lfn, str, Iterator[Located]], Iterator[Located]]
_Answer = tuple[Iterator[Located], LookupReport]


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer to a query. ``query`` is the one that was asked in the end: where a name was given, with the
    tree and the mode of what it stands for. ``report`` is whole when all ``files`` were taken."""

    query: DatasetQuery
    files: Iterator[Selected]
    report: LookupReport


class Selector:
    """Answers queries out of ``names``: our catalogue, or the lookup cache over it. Safe to share."""

    def __init__(
        self,
        names: Names,
        datasets: Datasets,
        settings: DatasetSettings,
        widened: Widened = lambda _base, _pattern, real: real,
    ) -> None:
        """``widened`` adds to the answer of a find."""
        self._names = names
        self._widened = widened
        self._datasets = datasets
        self._settings = settings

    def find(self, query: DatasetQuery) -> Iterator[Located]:
        """Yield the files of a query; see `select`. An archive is told of for each member that is meant."""
        return (selected.located for selected in self.select(query).files)

    def select(self, query: DatasetQuery) -> Selection:
        """Return what a query means now.

        Upstreams are asked before this returns (of the files of a frozen dataset: as they are taken), all
        finds of the query at once; memory does not grow with the answer. Files of a frozen dataset that the
        catalogue does not know are there, without copies. Raises `NoSuchDataset`, `BadQuery`, and an
        upstream's error as `Lookup.find` does.
        """
        query, found = self.resolve(query)
        report = LookupReport()
        if isinstance(found, Dataset):
            return Selection(query, self._frozen(found, query.tree, report), report)
        parts = parts_of(found, self._settings.variants)
        answers = self._ask(parts)
        for _, heard in answers:
            _merge(report, heard)
        return Selection(query, _selected(parts, [files for files, _ in answers]), report)

    def resolve(self, query: DatasetQuery) -> tuple[DatasetQuery, Dataset | FindQuery | OfficialQuery]:
        """Return ``query``, completed by what its name stands for, and that: files or a question."""
        asked = query
        for _ in range(_MOST_NAMES):
            if isinstance(query, FindQuery):
                return query, query
            if isinstance(query, OfficialQuery):
                query = query.with_defaults(variant_of(query, self._settings.variants).tree, None)
                return query, query
            dataset = self._dataset(query)
            query = query.with_defaults(dataset.tree, None)
            if dataset.kind == "frozen":
                return query, dataset
            query = DatasetQuery.parse(dataset.query).overridden(query.tree, query.mode)
        raise BadQuery(
            f"find {asked}", "the names of datasets by query lead in a circle", "see: vse dataset list"
        )

    def parts(self, query: FindQuery | OfficialQuery) -> list[Part]:
        """Return the finds that a query is."""
        return parts_of(query, self._settings.variants)

    def _dataset(self, query: DatasetQuery) -> Dataset:
        if isinstance(query, NamedQuery):
            return self._datasets.get(query.name, query.version)
        raise TypeError(type(query))

    # -- inside ----------------------------------------------------------------------------------

    def _ask(self, parts: Sequence[Part]) -> list[_Answer]:
        if len(parts) == 1 or not (isinstance(self._names, Lookup) and self._names.upstreams):
            return [self._one(part) for part in parts]
        with ThreadPoolExecutor(min(len(parts), self._settings.finds_at_once), "vse-find") as pool:
            heard = list(pool.map(self._one_or_error, parts))
        answers = [one for one in heard if not isinstance(one, CatalogueError)]
        errors = [one for one in heard if isinstance(one, CatalogueError)]
        if errors:
            raise errors[0]
        return answers

    def _one(self, part: Part) -> _Answer:
        if isinstance(self._names, Lookup):
            answer, report = self._names.find_with_report(part.base, part.pattern)
        else:
            answer, report = self._names.find(part.base, part.pattern), LookupReport()
        return self._widened(part.base, part.pattern, answer), report

    def _one_or_error(self, part: Part) -> _Answer | CatalogueError:
        try:
            return self._one(part)
        except CatalogueError as error:
            return error

    def _frozen(self, dataset: Dataset, tree: str, report: LookupReport) -> Iterator[Selected]:
        for some in in_chunks(self._datasets.files(dataset)):
            files: list[DatasetFile] = [file for _, file in some]
            lfns = list(dict.fromkeys(file.lfn for file in files))
            if isinstance(self._names, Lookup):
                answer, heard = self._names.resolve_with_report(lfns)
                _merge(report, heard)
            else:
                answer = self._names.resolve(lfns)
            for file in files:
                located = answer.ok.get(file.lfn)
                known = located is not None or not isinstance(answer.failed.get(file.lfn), NotFound)
                wanted = tree or file.tree
                shown = file if not tree or tree == file.tree else file._replace(tree=tree, entries=None)
                there = located or file.unknown_to_catalogue(dataset.created_s)
                yield Selected(shown, there, wanted, known)


def _selected(parts: Sequence[Part], answers: Sequence[Iterator[Located]]) -> Iterator[Selected]:
    """Yield the files of all parts, each once: by the first part that means it."""
    overlapping = _overlapping(parts)
    for place, (part, files) in enumerate(zip(parts, answers, strict=True)):
        before = [other for other in parts[:place] if _nested(part, other)] if part in overlapping else []
        for located in files:
            lfn = located.entry.lfn
            if part.accepts(lfn) and not any(other.means(lfn) for other in before):
                yield as_selected(located, part.tree, part.member)


def _overlapping(parts: Sequence[Part]) -> set[Part]:
    """Return those whose base holds, or lies below, that of another: neighbours once they are sorted."""
    found: set[Part] = set()
    above: list[Part] = []
    for part in sorted(parts, key=lambda one: one.base.rstrip("/") + "/"):
        while above and not part.base.is_below(above[-1].base):
            above.pop()
        if above:
            found.update((*above, part))
        above.append(part)
    return found


def _nested(one: Part, other: Part) -> bool:
    return one.base.is_below(other.base) or other.base.is_below(one.base)


def _merge(report: LookupReport, heard: LookupReport) -> None:
    report.asked += [name for name in heard.asked if name not in report.asked]
    report.queries += heard.queries
    report.waited_s += heard.waited_s
    for name, error in heard.failed.items():
        report.failed.setdefault(name, error)
    report.offline += [name for name in heard.offline if name not in report.offline]
    report.refreshing = report.refreshing or heard.refreshing
    report.note_conflicts(heard.conflicts)
    report.conflict_count += heard.conflict_count - len(heard.conflicts)
