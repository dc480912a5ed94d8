"""A site: its parts, built once from the settings, and closed together."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa

from vse.catalogue.lookup import Lookup
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream import build as build_upstream
from vse.config.load import Loaded
from vse.db import Database
from vse.errors import BadSettings
from vse.model import Clock
from vse.storage.element import Elements, StorageElement

if TYPE_CHECKING:
    from vse.config.settings import Settings
