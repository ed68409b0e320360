"""The command line: arguments in, exit codes out.

Workers import `piecework.cli.values`, so this file imports nothing before it is called.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of `piecework` and `pw`; always leaves through SystemExit."""
    import sys

    if sys.argv[1:2] == ["exec"]:  # past click: its import takes as long as a hundred commands
        from piecework.cli.exec import entry

        code = entry(sys.argv[2:])
    else:
        from piecework.cli.app import run

        code = run()
    _flush()
    if code > 128:
        _deaf()
    raise SystemExit(code)


def _flush() -> None:
    """What waits to be written to somebody who has left must not become the exit code (120)."""
    import os
    import sys

    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _deaf() -> None:
    """A run that ends on a signal has heard it: one more must not change the exit code now."""
    import signal

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
