"""Sources of arguments, drawn lazily: values, lines of a file or of standard input.

    ::: a b ─▶ Source ┐  linked: side by side     ┌─▶ ("a", "1")
    ::: 1 2 ─▶ Source ┘  else: every combination  └─▶ ("a", "2") ...

Of several sources the first varies slowest and is drawn as it comes, so that one which never ends
costs no memory there. A pipe in a later place must be gone through again and again: it is kept in
a temporary file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

from piecework.cli.exec.records import count_of, opened, regular, split
from piecework.cli.exec.words import Given
from piecework.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

Row = tuple[str, ...]


class Format:
    """How records and their columns are told apart."""

    def __init__(
        self,
        end: bytes = b"\n",
        colsep: str | None = None,
        trim: str = "",
        skip_blank: bool = False,
    ) -> None:
        self.end = end
        self.skip_blank = skip_blank
        self._split: Callable[[str], list[str]] | None = None
        if colsep is not None:
            self._split = _splitter(colsep)
        self._trim = trim

    @property
    def plain(self) -> bool:
        """A value is one column as it stands."""
        return self._split is None and not self._trim and not self.skip_blank

    def rows(self, records: Iterable[str]) -> Iterator[Row]:
        """Each record as its columns."""
        for record in records:
            if self.skip_blank and not record.strip():
                continue
            columns = [record] if self._split is None else self._split(record)
            if self._trim:
                columns = [_trimmed(column, self._trim) for column in columns]
            yield tuple(columns)


class Source:
    """One source, which can be gone through again."""

    def __init__(self, given: Given, form: Format, *, header: bool = False, run: str = "") -> None:
        self.linked = given.linked
        self.names: Row = ()
        self.again = False  # it will be gone through more than once
        self._given = given
        self._form = form
        self._skip = header
        self._file: BinaryIO | None = None
        self._records: Iterator[str] | None = None  # a pipe, where it stands now
        self._spool: BinaryIO | None = None
        self._spooled = False
        self._begin = 0
        if given.file is not None:
            self._file = opened(given.file, run)
            if regular(self._file):
                self._begin = self._file.tell()
        if header:
            self.names = next(self.rows(names=True), ())

    def __del__(self) -> None:
        for file in (getattr(self, "_file", None), getattr(self, "_spool", None)):
            if file is not None:
                file.close()

    @property
    def values(self) -> Sequence[Row] | None:
        """All of it where it was given as arguments."""
        if self._file is not None or self._skip or not self._form.plain:
            return None
        return [(value,) for value in self._given.values]

    def __len__(self) -> int:
        """How many rows; TypeError where nobody knows before it is read."""
        if self._form.skip_blank and self._file is not None:
            raise TypeError
        if self._file is None:
            return sum(1 for _ in self.rows())
        if not regular(self._file):
            raise TypeError
        return max(0, count_of(self._file, self._form.end) - self._skip)

    def rows(self, *, names: bool = False) -> Iterator[Row]:
        """The rows from the first one on; of a pipe, the second time from where they are kept."""
        rows = self._form.rows(self._texts())
        if self._skip and not names and self._records is None:
            next(rows, None)
        return rows

    def _texts(self) -> Iterator[str]:
        if self._file is None:
            return iter(self._given.values)
        end = self._form.end
        if regular(self._file):
            return map(_decoded, split(self._file, end, self._begin))
        if self._spooled and self._spool is not None:
            return map(_decoded, split(self._spool, b"\0", 0))
        if self._records is None:
            self._records = map(_decoded, split(self._file, end))
        return self._kept(self._records) if self.again else self._records

    def _kept(self, records: Iterator[str]) -> Iterator[str]:
        """The first time through a pipe: what is read is kept."""
        import tempfile

        self._spool = spool = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # lives as long as we
        for record in records:
            spool.write(record.encode("utf-8", "surrogateescape") + b"\0")
            yield record
        spool.flush()
        self._spooled = True


class Arguments:
    """What each task gets: a text, or a tuple of texts where there are several.

    Iterating draws no further than asked. `len` is known where that is cheap.
    """

    def __init__(self, sources: Sequence[Source], *, link: bool = False) -> None:
        self._sets = _sets(sources, link)
        self._wrap = link
        self.columns = sum(1 for _ in sources)
        for members in self._sets[1:]:
            for source in members:
                source.again = True
        if link:
            for source in sources:
                source.again = len(sources) > 1

    def __len__(self) -> int:
        longest = max if self._wrap else min
        total = 1
        for members in self._sets:
            total *= longest(map(len, members))
        return total

    def __iter__(self) -> Iterator[Row]:
        return self._rows(0)

    def simple(self) -> list[Row] | None:
        """All of them where they were given as one list of arguments: nothing to wait for."""
        if len(self._sets) == 1 and len(self._sets[0]) == 1:
            values = self._sets[0][0].values
            return None if values is None else list(values)
        return None

    def _rows(self, at: int) -> Iterator[Row]:
        if at == len(self._sets) - 1:
            yield from self._linked(self._sets[at])
            return
        for row in self._linked(self._sets[at]):
            for rest in self._rows(at + 1):
                yield row + rest

    def _linked(self, members: Sequence[Source]) -> Iterator[Row]:
        if len(members) == 1:
            return members[0].rows()
        return _wrapped(members) if self._wrap else _side_by_side(members)


def _sets(sources: Sequence[Source], link: bool) -> list[list[Source]]:
    """Sources that run side by side are one set; the sets are combined."""
    sets: list[list[Source]] = []
    for source in sources:
        if sets and (link or source.linked):
            sets[-1].append(source)
        else:
            sets.append([source])
    return sets


def _side_by_side(members: Sequence[Source]) -> Iterator[Row]:
    """To the end of the shortest."""
    for rows in zip(*(source.rows() for source in members), strict=False):
        yield sum(rows, ())


def _wrapped(members: Sequence[Source]) -> Iterator[Row]:
    """To the end of the longest; the others begin again."""
    running = [source.rows() for source in members]
    ended = [False] * len(members)
    for _ in count():
        rows: list[Row] = []
        for i, source in enumerate(members):
            row = next(running[i], None)
            if row is None:
                ended[i] = True
                if all(ended):
                    return
                running[i] = source.rows()
                row = next(running[i], None)
                if row is None:  # nothing in it at all
                    return
            rows.append(row)
        yield sum(rows, ())


def _decoded(record: bytes) -> str:
    return record.decode("utf-8", "surrogateescape")


def _splitter(colsep: str) -> Callable[[str], list[str]]:
    import re

    try:
        pattern = re.compile(colsep)
    except re.error as error:
        raise UsageError(
            f"--colsep {colsep!r} is no regular expression: {error}. "
            f"To mean the text itself write {re.escape(colsep)!r}."
        ) from None
    return pattern.split


def _trimmed(text: str, sides: str) -> str:
    if "l" in sides:
        text = text.lstrip()
    return text.rstrip() if "r" in sides else text
