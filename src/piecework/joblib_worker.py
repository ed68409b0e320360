"""What a worker of the joblib backend does first, before it has imported joblib or NumPy.

What limits the threads of native libraries has to be set before they are loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from piecework.executors import blas

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def set_up_worker(
    variables: dict[str, str], initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]
) -> None:
    """What a worker of the backend does first: so many threads for native libraries, then the
    user's own initializer."""
    os.environ.update(variables)
    blas.limit_loaded(variables)
    if initializer is not None:
        initializer(*initargs)
