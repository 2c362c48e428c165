"""Commit and flags -> binaries that start, kept by content, with a compile cache."""

from harness.build.builds import build, build_key

__all__ = ["build", "build_key"]
