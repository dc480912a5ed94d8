"""The SQL catalogue, and the lookup cache over it, pass the suite that any implementer can run."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from vse.catalogue.lookup import Lookup
from vse.catalogue.sql import SqlCatalogue
from vse.testing.names import CatalogueConformance, NamesConformance
from vse.testing.names_kinds import TrashConformance


class TestSqlite(CatalogueConformance, TrashConformance):
    @pytest.fixture
    def names(self, catalogue):
        return catalogue

    @pytest.fixture
    def keeping(self, database, clock):
        return SqlCatalogue(database, clock, trash_s=100)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("psycopg") is None, reason="the extra 'postgresql' is not installed")
class TestPostgresql(CatalogueConformance, TrashConformance):
    @pytest.fixture
    def names(self, postgresql, clock):
        return SqlCatalogue(postgresql, clock)

    @pytest.fixture
    def keeping(self, postgresql, clock):
        return SqlCatalogue(postgresql, clock, trash_s=100)


class TestLookupWithoutUpstreams(NamesConformance):
    @pytest.fixture
    def names(self, catalogue, clock):
        return Lookup(catalogue, [], clock)

    def fill(self, names, files):
        assert not names.catalogue.register(files).failed


@pytest.mark.slow
class TestRemote(CatalogueConformance, TrashConformance):
    """The same over HTTP: a real door on this machine, with the catalogue of a SQLite file behind it."""

    @pytest.fixture
    def names(self, catalogue, remote_of):
        return remote_of(catalogue)

    @pytest.fixture
    def keeping(self, database, clock, remote_of):
        return remote_of(SqlCatalogue(database, clock, trash_s=100))
