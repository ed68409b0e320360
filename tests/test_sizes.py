"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.sizes import size_from, size_text


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("2GB", 2_000_000_000),
        ("2 gb", 2_000_000_000),
        ("2G", 2 << 30),
        ("2GiB", 2 << 30),
        ("1.5M", 3 << 19),
        ("512 MiB", 512 << 20),
        ("10k", 10_240),
        ("10 kB", 10_000),
        ("4096", 4096),
        ("4096 B", 4096),
        ("1T", 1 << 40),
        *[(odd, None) for odd in ("", "GB", "2XB", "2 Gi", "-1G", "1e999", "nan", "2GBB", "2 G B")],
    ],
)
def test_what_is_written_is_what_is_meant(text: str, nbytes: int | None) -> None:
    assert size_from(text) == nbytes


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_none(text: str) -> None:
    size = size_from(text)
    assert size is None or size >= 0


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (234_567_890, "235 MB"),
     (999_999, "1 MB"), (1.5e9, "1.5 GB"), (3e15, "3e+03 TB")],
)  # fmt: skip
def test_a_size_is_told_in_three_digits(nbytes: float, text: str) -> None:
    assert size_text(nbytes) == text
