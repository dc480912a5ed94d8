"""DIRAC's FileCatalog, asked through DIRAC's own client in a helper process.

``url`` is that of the service (``dips://host:9197/DataManagement/FileCatalog``) or its name in DIRAC's
configuration (``DataManagement/FileCatalog``). The credentials are what DIRAC finds in the environment:
``X509_USER_PROXY``, ``X509_CERT_DIR``, and ``DIRACSYSCONFIG`` for its dirac.cfg.
"""

from __future__ import annotations

from pathlib import Path

from vse.catalogue.upstream.helper import HelperUpstream
from vse.config.upstreams import UpstreamSettings


class DiracUpstream(HelperUpstream):
    """`vse.catalogue.port.Upstream`; see `vse.catalogue.upstream.helper`."""

    def __init__(self, settings: UpstreamSettings) -> None:
        super().__init__(settings, Path(__file__).with_name("helpers") / "dirac_helper.py", "DIRAC")
