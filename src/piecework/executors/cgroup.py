"""What the control groups of this process allow, version 1 and 2: processor time and memory.

    /proc/self/cgroup, /proc/self/mountinfo ──▶ folders, own group first ──▶ limits: the tightest

A limit anywhere on the path from our group to the root holds, so every folder of it is read. All
of this goes by texts that a `Read` gives: a file that is missing or odd means no limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from piecework.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    Read = Callable[[str], "str | None"]
    """The text of a file, or None where it cannot be read."""

_ROOT = "/sys/fs/cgroup"
_UNLIMITED = 1 << 60  # version 1 says "no limit" with about the largest number there is


@record(frozen=True, slots=True)
class Limit:
    """The tightest limit: cores' worth of time, or bytes; and the file that says so."""

    amount: float
    path: str


def read_file(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def cpu_limit(read: Read) -> Limit | None:
    """How many cores' worth of time the groups allow; None: as many as there are."""
    return _tightest(_cpu_limits(_once(read)))


def memory_limit(read: Read) -> Limit | None:
    """How many bytes the groups allow; None: as many as there are."""
    return _tightest(_memory_limits(_once(read)))


def memory_used(read: Read, limit: Limit) -> int | None:
    """Bytes that the group with this limit uses now, its page cache included."""
    folder = limit.path.rpartition("/")[0]
    for name in ("memory.current", "memory.usage_in_bytes"):
        used = _number(read(f"{folder}/{name}"))
        if used is not None:
            return int(used)
    return None


def oom_kills(read: Read) -> int:
    """How many processes of our group the kernel has killed for memory; without memory groups,
    of the machine. 0 where nobody counts."""
    for folders, name in ((_folders(read, "memory"), "memory.oom_control"),
                          (_folders(read, ""), "memory.events")):  # fmt: skip
        for folder in folders:  # the counter of our own group; above it others are counted, too
            count = _entry(read(f"{folder}/{name}"), "oom_kill")
            if count is not None:
                return count
    return _entry(read("/proc/vmstat"), "oom_kill") or 0


def _once(read: Read) -> Read:
    """Each file is read once: both versions go by the same two."""
    texts: dict[str, str | None] = {}

    def known(path: str) -> str | None:
        if path not in texts:
            texts[path] = read(path)
        return texts[path]

    return known


def _cpu_limits(read: Read) -> Iterator[Limit | None]:
    for folder in _folders(read, ""):
        path = f"{folder}/cpu.max"
        words = (read(path) or "").split()
        yield _share(words[0], words[1] if len(words) > 1 else "100000", path) if words else None
    for folder in _folders(read, "cpu"):
        path = f"{folder}/cpu.cfs_quota_us"
        quota, period = read(path), read(f"{folder}/cpu.cfs_period_us")
        yield _share(quota, period, path)


def _share(quota: str | None, period: str | None, path: str) -> Limit | None:
    allowed, each = _number(quota), _number(period)
    return Limit(allowed / each, path) if allowed and each else None


def _memory_limits(read: Read) -> Iterator[Limit | None]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _folders(read, controller):
            path = f"{folder}/{name}"
            limit = _number(read(path))
            yield Limit(limit, path) if limit and limit < _UNLIMITED else None


def _tightest(limits: Iterator[Limit | None]) -> Limit | None:
    found = [limit for limit in limits if limit is not None]
    return min(found, key=lambda limit: limit.amount, default=None)


def _number(text: str | None) -> int | None:
    """A positive number; None for "max", -1, nothing and anything odd."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _entry(text: str | None, name: str) -> int | None:
    for line in (text or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            return _number(words[1])
    return None


# -- where our groups are -------------------------------------------------------------------------


def _folders(read: Read, controller: str) -> list[str]:
    """The folders of our group and of those it is in, own first; of version 2 for ""."""
    path = _path(read("/proc/self/cgroup") or "", controller)
    if path is None:
        return []
    mount, root = _mount(read("/proc/self/mountinfo") or "", controller)
    inside = _inside(path, root)
    found = []
    while True:
        found.append(mount + inside)
        if not inside:
            return found
        inside = inside.rpartition("/")[0]


def _path(text: str, controller: str) -> str | None:
    """Lines are `4:memory:/a/b`, of version 2 `0::/a/b`."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        here = controller in controllers.split(",") if controller else number == "0"
        if here and path.startswith("/"):
            return path
    return None


def _mount(text: str, controller: str) -> tuple[str, str]:
    """Where the hierarchy is mounted, and which of its groups is seen there.

    Lines are `31 23 0:28 /root /mount/point rw - cgroup cgroup rw,memory`.
    """
    for line in text.splitlines():
        mounted, _, kind = line.partition(" - ")
        words, what = mounted.split(), kind.split()
        if len(words) < 5 or len(what) < 3:
            continue
        if what[0] == ("cgroup" if controller else "cgroup2") and (
            not controller or controller in what[2].split(",")
        ):
            return _unescaped(words[4]).rstrip("/"), _unescaped(words[3])
    return (f"{_ROOT}/{controller}" if controller else _ROOT), "/"


def _inside(path: str, root: str) -> str:
    """The path below the mount point; "" where our group is not seen there, as in a container
    that has only its own group mounted."""
    root, path = root.rstrip("/"), path.rstrip("/")
    if path != root and not path.startswith(f"{root}/"):
        return ""
    inside = path[len(root) :]
    return "" if "/.." in inside else inside


def _unescaped(word: str) -> str:
    """A blank is written as \\040 in this file, as are others that would end a word."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(code, character)
    return word
