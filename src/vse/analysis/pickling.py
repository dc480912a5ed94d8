"""Outputs as bytes: by pickle, and where that gives up (a lambda in a ``defaultdict``) by cloudpickle."""

from __future__ import annotations

import importlib
import pickle
import types
from collections.abc import Sequence
from typing import Any


def dumps(value: Any) -> bytes:
    """Return bytes for ``pickle.loads``. Raises what cloudpickle raises."""
    try:
        return pickle.dumps(value, protocol=5)
    except MemoryError:
        raise
    except Exception:
        return bytes(_cloudpickle().dumps(value, protocol=5))


def dumps_with(modules: Sequence[types.ModuleType], value: Any) -> bytes:
    """Return bytes for ``pickle.loads`` anywhere: classes of ``modules`` are in them, not their names."""
    cloudpickle = _cloudpickle()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(value, protocol=5))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _cloudpickle() -> Any:
    return importlib.import_module("cloudpickle")
