"""What every upload does at its end: after anything but `commit`, nothing remains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from vse.model import Closing


class Aborting(Closing):
    """Base of uploads: an error in a guarded step aborts, and so does the end of the ``with`` block.

    ``_lock`` is held during a guarded step, where a storage needs one call at a time.
    """

    _lock: AbstractContextManager[Any] = nullcontext()

    def abort(self) -> None:
        """Forget the upload; may be called at any time, any number of times."""
        raise NotImplementedError

    def close(self) -> None:
        self.abort()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except BaseException:
                self.abort()
                raise
