"""`sqlite3` without what it brings along: dates and their adapters, which no journal has.

Its import takes as long as a small command runs. Type checkers see the module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
else:
    try:
        import _sqlite3 as sqlite3
    except ImportError:  # another Python than CPython
        import sqlite3

__all__ = ["sqlite3"]
