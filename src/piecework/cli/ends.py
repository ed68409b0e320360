"""What becomes of an error: a message with the way out, and an exit code; never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from piecework.cli.text import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def guarded(call: Callable[[], Any]) -> int:
    """Carry out one command line and return its exit code."""
    from piecework.errors import PieceworkError, QueueUnreachable, UsageError

    try:
        code = call()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _silence_stdout()
        return 141
    except UsageError as error:
        return _said(error, 2)
    except QueueUnreachable as error:
        return _said(error, 4)
    except PieceworkError as error:
        return _said(error, 125)
    except Exception as error:
        if os.environ.get("PIECEWORK_DEBUG"):
            import traceback

            traceback.print_exc()
        kind = type(error).__name__
        say(f"piecework: an error of our own, {kind}: {error}. PIECEWORK_DEBUG=1 shows where.")
        return 125


def _silence_stdout() -> None:
    """Point it at nothing: the interpreter flushes it once more at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _said(error: Exception, code: int) -> int:
    say(f"piecework: {error}")
    return code
