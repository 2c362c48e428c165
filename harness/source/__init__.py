"""Branch, SHA, owner:branch, #PR, path, URL or the demo -> commit -> read-only checkout.

GitPython lives only here.
"""

from harness.source.checkout import checkout
from harness.source.refs import resolve
from harness.source.repository import Repository, open_repository

__all__ = ["Repository", "checkout", "open_repository", "resolve"]
