"""For all tests: runs keep their journals in the test's own directory, and signals are heard."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# What is ignored stays so in the programs that the tests start: `nohup make test` must not make
# those wait for ever that are to end with their terminal.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
