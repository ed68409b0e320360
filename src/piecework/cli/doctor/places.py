"""Where journals lie: whether they can be kept there, and which of them cannot be read."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from piecework.cli.doctor.finding import Finding, note, ok, wrong
from piecework.errors import JournalError
from piecework.executors.cgroup import read_file
from piecework.journal import directory
from piecework.sizes import size_text
from piecework.wording import counted

FREE_MIN = 100 << 20
NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "beegfs", "gpfs")
REMOTE = ("sshfs", "glusterfs", "s3fs", "rclone", "gcsfuse")  # as fuse.NAME
ELSEWHERE = "put them on a local disk: XDG_STATE_HOME=/path, or --journal FILE for one run."
BROKEN_SHOWN = 5


def findings() -> Iterator[Finding]:
    place = directory.default_directory()
    there = _nearest(place)
    trial = _writable(place, there)
    yield trial
    if trial.level == "ok":
        yield from _kind(there)
        yield _space(there)
    yield from _journals()


def _kind(there: Path) -> Iterator[Finding]:
    kind = file_system(read_file("/proc/self/mountinfo") or "", os.path.realpath(there))
    if kind.startswith(NETWORK) or kind.removeprefix("fuse.") in REMOTE:
        yield wrong(
            "journal",
            f"{there} is on a network file system ({kind}), where SQLite cannot write ahead safely",
            ELSEWHERE,
        )


def _nearest(place: Path) -> Path:
    """The directory itself, or the one that it would be made in."""
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def _writable(place: Path, there: Path) -> Finding:
    """By trying: a journal as it is made, in a folder of its own, which is removed again."""
    made = f"{place}" if place == there else f"{place}, not made yet"
    try:
        with tempfile.TemporaryDirectory(prefix=".piecework-doctor-", dir=there) as folder:
            mode = _try(Path(folder, "trial.journal"))
    except (OSError, sqlite3.Error, JournalError) as error:
        return wrong("journal", f"{made}: no journal can be kept there: {error}", ELSEWHERE)
    if mode != "wal":
        return wrong(
            "journal", f"{made}: SQLite cannot write ahead there (journal_mode={mode})", ELSEWHERE
        )
    return ok("journal", f"{made}: can be written and locked")


def _try(path: Path) -> str:
    lock = directory.Lock(path)
    database = sqlite3.connect(path)
    try:
        (mode,) = database.execute("PRAGMA journal_mode=WAL").fetchone()
        database.execute("CREATE TABLE trial (number INTEGER)")
        database.execute("INSERT INTO trial VALUES (1)")
        database.commit()
    finally:
        database.close()
        lock.free()
    return str(mode)


def _space(there: Path) -> Finding:
    stat = os.statvfs(there)
    free = stat.f_frsize * stat.f_bavail
    if free < FREE_MIN:
        text = f"{size_text(free)} free: a million small tasks take up to 40 MB"
        return wrong("journal", text, f"make room: piecework rm RUN, or {ELSEWHERE}")
    return ok("journal", f"{size_text(free)} free")


def file_system(mountinfo: str, path: str) -> str:
    """The kind of file system that the path is on; "" where it is not known."""
    found, kind = "", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words, what = before.split(), after.split()
        if len(words) < 5 or not what:
            continue
        point = words[4].replace("\\040", " ")
        inside = point == "/" or path == point or path.startswith(f"{point}/")
        if inside and len(point) >= len(found):
            found, kind = point, what[0]
    return kind


def _journals() -> Iterator[Finding]:
    from piecework.journal.reader import Reader

    paths = directory.journals()
    live, broken = 0, []
    for path in paths:
        try:
            with Reader(path) as reader:
                live += reader.live
        except JournalError as error:
            broken.append(str(error))
        except OSError as error:
            broken.append(f"the journal {path} cannot be read: {error.strerror}")
    size = size_text(sum(map(directory.size_of, paths)))
    if paths:
        yield ok("journal", f"{counted(len(paths), 'run')}, {live} live, {size}: piecework runs")
    for text in broken[:BROKEN_SHOWN]:
        yield wrong("journal", *_cut(text))
    if len(broken) > BROKEN_SHOWN:
        yield note("journal", f"and {len(broken) - BROKEN_SHOWN} more that cannot be read")


def _cut(text: str) -> tuple[str, str]:
    """The trouble, and its way out: the errors of journals end with one."""
    first, dot, rest = text.partition(". ")
    if not rest:
        return text, "move it elsewhere, or remove it."
    return f"{first}{dot}".strip(), rest
