"""What uploads that died left on a server under hidden names, found by its age and removed."""

from __future__ import annotations

from vse.errors import NoSuchFile
from vse.storage.contract import Driver
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY


def sweep_by_age(driver: Driver, base: str, older_than_s: float, now_s: float) -> int:
    """Remove the files of the element's directory of partial files that are old; return how many.

    No server tells whether a writer lives: one that has not written for ``older_than_s``, by the server's
    times against ``now_s``, counts as dead. What goes or cannot be removed meanwhile is left.
    """
    directory = f"{base.rstrip('/')}/{PARTIAL_DIRECTORY}"
    try:
        old = [
            file.path
            for file in driver.list(directory)
            if not file.is_directory
            and file.modified_s is not None
            and now_s - file.modified_s >= older_than_s
        ]
    except NoSuchFile:
        return 0
    return len(driver.remove(old).ok) if old else 0
