"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return ``1 file`` or ``2,304 files``.

    ``nouns``: what is said of several, where that takes more than an s, as of ``file stays``, ``files stay``.
    """
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"
