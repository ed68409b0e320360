"""How much memory worker processes and their children hold: read from outside, while tasks run.

    rough  memory that no file backs, as the kernel counts it anyway: 15 µs, never too little
    exact  the same with each shared page divided by its users: walks the pages, 10 ms a GB

Pages of files that are mapped (libraries, a table of 10 GB that is only read) count in neither:
the kernel drops them where memory runs short. Where there is no /proc, psutil tells the resident
memory, if it is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KB = 1024
_ROUGH = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
_SHARED = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")
_OWN = (b"Private_Dirty:", b"SwapPss:")


def can_measure() -> bool:
    return _status(os.getpid()) is not None or _psutil() is not None


def rough(pids: Iterable[int]) -> int:
    """Bytes; what has ended meanwhile counts nothing."""
    return sum(map(_rough, pids))


def exact(pids: Iterable[int], *, forked: bool) -> int:
    """Bytes. A `forked` worker began with all that its master had: there only pages that it has
    written itself count."""
    return sum(_exact(pid, forked) for pid in pids)


def _rough(pid: int) -> int:
    text = _status(pid)
    if text is not None:
        return _sum(text, _ROUGH)
    psutil = _psutil()
    try:
        return int(psutil.Process(pid).memory_info().rss) if psutil else 0
    except psutil.Error:
        return 0


def _exact(pid: int, forked: bool) -> int:
    text = _read(f"/proc/{pid}/smaps_rollup")
    if text is None:  # an old kernel, or not ours to look into
        return _rough(pid)
    own = forked or b"Pss_Anon:" not in text  # before Linux 5.3
    return _sum(text, _OWN if own else _SHARED)


def _sum(text: bytes, names: tuple[bytes, ...]) -> int:
    total = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in names:
            total += int(words[1]) * _KB
    return total


def _status(pid: int) -> bytes | None:
    return _read(f"/proc/{pid}/status")


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 8192)
    except OSError:
        return None
    finally:
        os.close(fd)


# -- a worker and what it has started -------------------------------------------------------------


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found, new = [pid], [pid]
    by_parent: dict[int, list[int]] | None = None
    while new:
        parents, new = new, []
        for parent in parents:
            children = _children(parent) if by_parent is None else by_parent.get(parent, [])
            if children is None:  # then one look at all processes serves the whole family
                by_parent = _by_parent()
                children = by_parent.get(parent, [])
            new += [child for child in children if child not in found]
        found += new
    return found


def _children(pid: int) -> list[int] | None:
    """None where the system does not say so of one process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        psutil: Any = None if os.path.isdir("/proc/self") else _psutil()
        try:
            return [child.pid for child in psutil.Process(pid).children()] if psutil else []
        except psutil.Error:
            return []
    found: list[int] = []
    for thread in threads:
        text = _read(f"/proc/{pid}/task/{thread}/children")
        if text is None:  # this kernel has no such files, or the thread has ended
            return None
        found += map(int, text.split())
    return found


def _by_parent() -> dict[int, list[int]]:
    """All processes by their parent."""
    found: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        words = (_read(f"/proc/{name}/stat") or b"").rpartition(b")")[2].split()
        if len(words) > 1:
            found.setdefault(int(words[1]), []).append(int(name))
    return found


def _psutil() -> Any:
    """None where it is not installed: it is no dependency of ours."""
    try:
        import psutil  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    return psutil
