"""The SQL catalogue, and the lookup cache over it, pass the suite that any implementer can run."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from vse.catalogue.lookup import Lookup
from vse.catalogue.sql import SqlCatalogue
from vse.testing.names import CatalogueConformance, NamesConformance


class TestSqlite(CatalogueConformance):
    @pytest.fixture
    def names(self, catalogue):
        return catalogue


@pytest.mark.slow
@pytest.mark.skipif(find_spec("psycopg") is None, reason="the extra 'postgresql' is not installed")
class TestPostgresql(CatalogueConformance):
    @pytest.fixture
    def names(self, postgresql, clock):
        return SqlCatalogue(postgresql, clock)


class TestLookupWithoutUpstreams(NamesConformance):
    @pytest.fixture
    def names(self, catalogue, clock):
        return Lookup(catalogue, [], clock)

    def fill(self, names, files):
        assert not names.catalogue.register(files).failed
