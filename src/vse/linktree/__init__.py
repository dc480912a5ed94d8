"""The link tree: every staged file as a path that any program can open."""

from vse.linktree.tree import LinkTree, Synced

__all__ = ["LinkTree", "Synced"]
