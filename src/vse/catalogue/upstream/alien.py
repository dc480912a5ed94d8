"""ALICE's file catalogue (JAliEn), asked through ``alienpy`` in a helper process.

``url`` is ``wss://alice-jcentral.cern.ch:8097``, or another endpoint that speaks as it does; the
credentials are what alienpy finds in the environment: ``JALIEN_TOKEN_CERT`` and ``JALIEN_TOKEN_KEY``, or
``X509_USER_CERT`` and ``X509_USER_KEY``, and ``X509_CERT_DIR``.
"""

from __future__ import annotations

from pathlib import Path

from vse.catalogue.upstream.helper import HelperUpstream
from vse.config.upstreams import UpstreamSettings


class AlienUpstream(HelperUpstream):
    """`vse.catalogue.port.Upstream`; see `vse.catalogue.upstream.helper`."""

    def __init__(self, settings: UpstreamSettings) -> None:
        super().__init__(settings, Path(__file__).with_name("helpers") / "alien_helper.py", "alienpy")
