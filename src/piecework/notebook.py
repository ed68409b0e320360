"""What a run looks like in a notebook: text and HTML of the same content, nothing to install.

The HTML is one block without scripts and styles of its own kind: it reads well in dark and light,
and in a notebook that somebody opens a year later.
"""

from __future__ import annotations

from html import escape

from piecework.wording import counted, exact, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from piecework.groups import FailureGroup
    from piecework.summary import Summary

GROUPS_SHOWN = 20
_LINE = '<div style="font-variant-numeric: tabular-nums">'

Bundle = dict[str, str]


def account(summary: Summary) -> Bundle:
    """The closing account: the audit, what failed by groups, how the time went."""
    name = f"<b>{escape(summary.name)}</b>: " if summary.name else ""
    rate = f"{summary.rate:,.0f}/s" if summary.rate else ""
    how = [exact(summary.seconds), rate, summary.on]
    parts = [f"{name}{counted(summary.done, 'task')} done · {_joined(how)}"]
    if summary.stopped:
        parts.append(f"stopped: {escape(str(summary.error or summary.stopped))}")
    html = "".join(f"{_LINE}{part}</div>" for part in parts)
    html += _table(summary.groups) + f"{_LINE}<small>{escape(summary.audit)}</small></div>"
    return {"text/plain": str(summary), "text/html": html}


def going(title: str, share: float | None, line: str, failures: Sequence[str]) -> Bundle:
    """A run under way: a bar where the end is known, and what failed so far."""
    value = "" if share is None else f' value="{share:.4f}" max="1"'
    bar = f'<progress{value} style="width: 16em; vertical-align: middle"></progress> '
    name = f"<b>{escape(title)}</b> " if title else ""
    html = f"{_LINE}{name}{bar}{escape(line)}</div>"
    if failures:
        html += f'<pre style="margin: .3em 0 0">{escape(chr(10).join(failures))}</pre>'
    plain = f"{title}: {line}" if title else line
    return {"text/plain": "\n".join([plain, *failures]), "text/html": html}


def _joined(parts: Iterable[str]) -> str:
    return " · ".join(escape(part) for part in parts if part)


def _table(groups: tuple[FailureGroup, ...]) -> str:
    if not groups:
        return ""
    rows = "".join(
        f"<tr><td>{group.count:,}</td>"
        + "".join(
            f'<td style="text-align: left">{escape(text)}</td>'
            for text in (group.type, group.message, group.where, _examples(group))
        )
        + "</tr>"
        for group in groups[:GROUPS_SHOWN]
    )
    heads = "".join(f"<th>{head}</th>" for head in ("count", "type", "message", "at", "inputs"))
    more = len(groups) - GROUPS_SHOWN
    rest = f"{_LINE}{counted(more, 'further group')}</div>" if more > 0 else ""
    return f"<table><tr>{heads}</tr>{rows}</table>{rest}"


def _examples(group: FailureGroup) -> str:
    return ", ".join(shown(example) for example in group.examples)
