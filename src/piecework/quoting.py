"""What a shell reads: words quoted for it, and values put where its own quotes are open."""

from __future__ import annotations


def quoted(word: str) -> str:
    """The word as a shell reads it back."""
    if word and _PLAIN.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PLAIN = frozenset(_LETTERS + _LETTERS.upper() + "0123456789_@%+=:,./-")


def quote_after(text: str, quote: str) -> str:
    """The quote that is open after this text, where that one was before it; or none."""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return quote


def in_quotes(names: list[str], quote: str) -> str:
    """Variables where a placeholder stood, so that each stays one word."""
    if quote == '"':
        return " ".join(names)
    if quote == "'":
        return "'\"" + " ".join(names) + "\"'"
    return " ".join(f'"{name}"' for name in names)


def shown(values: list[str], quote: str) -> str:
    """The values themselves, so that a shell reads them back in these quotes."""
    if quote == '"':
        return "".join(f"\\{c}" if c in '$`"\\' else c for c in " ".join(values))
    if quote == "'":
        return " ".join(values).replace("'", "'\"'\"'")
    return " ".join(map(quoted, values))
