"""The SQL catalogue, and the lookup cache over it, pass the suite that any implementer can run."""

from __future__ import annotations

import pytest

from vse.catalogue.lookup import Lookup
from vse.catalogue.sql import SqlCatalogue
from vse.testing.names import CatalogueConformance, NamesConformance


class TestSqlCatalogue(CatalogueConformance):
    @pytest.fixture
    def names(self, catalogue: SqlCatalogue) -> SqlCatalogue:
        return catalogue


class TestLookupWithoutUpstreams(NamesConformance):
    @pytest.fixture
    def names(self, catalogue, clock):
        return Lookup(catalogue, [], clock)

    def fill(self, names, files):
        assert not names.catalogue.register(files).failed
