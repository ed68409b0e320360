"""Taking apart what comes out of a pipe, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from piecework.executors.marked import LINE_MAX, OPEN_MAX, Lines, Unpacker
from piecework.executors.printing import ERR, HEADER, LOG, MARK, OUT, RAW

TOKEN = b"\x01token\x01\x01"

texts = st.binary(max_size=50).filter(lambda data: TOKEN not in data)
records = st.tuples(st.sampled_from([OUT, ERR, LOG, MARK]), texts, st.integers(0, 9))
raws = st.tuples(st.just(RAW), texts.filter(bool), st.just(0))


def _packed(kind: int, data: bytes, number: int) -> bytes:
    if kind == RAW:
        return data
    return HEADER.pack(TOKEN, kind, 0, len(data), 0, number, 0) + data


def _joined(parts: list[tuple[int, bytes, int]]) -> list[tuple[int, bytes, int]]:
    """With what lies between two records as one."""
    joined: list[tuple[int, bytes, int]] = []
    for kind, data, number in parts:
        if kind == RAW and joined and joined[-1][0] == RAW:
            joined[-1] = RAW, joined[-1][1] + data, 0
        else:
            joined.append((kind, data, number))
    return joined


@given(st.lists(records | raws), st.lists(st.integers(0, 3000)))
def test_what_was_written_comes_out_however_it_is_cut(
    parts: list[tuple[int, bytes, int]], cuts: list[int]
) -> None:
    written = b"".join(_packed(*part) for part in parts)
    ends = sorted({min(cut, len(written)) for cut in cuts} | {0, len(written)})
    unpacker, found = Unpacker(TOKEN), []
    for start, end in pairwise(ends):
        for part in unpacker.feed(written[start:end]):
            found.append((part.kind, part.data, part.number))
    if rest := unpacker.end():
        found.append((RAW, rest, 0))
    if b"".join(part[1] for part in parts if part[0] == RAW).count(TOKEN):
        return  # two pieces make a token by chance: no real one is known to who prints
    assert _joined(found) == _joined(parts)


sources = st.tuples(st.integers(0, 2))


@given(st.lists(st.tuples(sources, st.text("ab\n", max_size=6).map(str.encode))))
def test_lines_of_each_source_are_whole_and_complete(
    pieces: list[tuple[tuple[int], bytes]],
) -> None:
    lines = Lines()
    found: dict[tuple[int, ...], list[bytes]] = {}
    for source, data in pieces:
        found.setdefault(source, []).extend(lines.feed(source, data))
    for source in list(lines.open):
        found[source].extend(lines.end(source))
    for source, said in found.items():
        text = b"".join(data for other, data in pieces if other == source)
        assert said == (text.removesuffix(b"\n").split(b"\n") if text else [])
    assert not lines.open


def test_a_line_without_end_is_handed_on_in_pieces() -> None:
    lines, size = Lines(), 0
    for _ in range(100):
        size += sum(map(len, lines.feed((1,), b"x" * 100_000)))
        assert len(lines.open.get((1,), b"")) <= LINE_MAX
    assert size >= 100 * 100_000 - LINE_MAX


def test_many_lines_without_end_are_bounded_together() -> None:
    lines = Lines()
    for source in range(1000):
        lines.feed((source,), b"x" * 100_000)
        assert sum(map(len, lines.open.values())) <= OPEN_MAX
