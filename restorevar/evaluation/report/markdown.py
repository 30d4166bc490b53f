"""Tables as Markdown: GitHub's, without anything that a plain reader would stumble over."""

from __future__ import annotations

import string
from collections.abc import Sequence

from .table import WORDS, Line, Table


def document(title: str, intro: Sequence[str], tables: Sequence[Table]) -> str:
    return "\n".join([f"# {escape(title)}", "", *(f"{line}\n" for line in intro), *map(markdown, tables)])


def section(title: str, intro: Sequence[str], tables: Sequence[Table]) -> str:
    """A part of a document: its tables stand one level below its heading."""
    return "\n".join([f"## {escape(title)}", "", *(f"{line}\n" for line in intro), *(markdown(t, 3) for t in tables)])


def markdown(table: Table, level: int = 2) -> str:
    """Heading, caption, table, commands, notes. The best is bold."""
    best, remedies = table.best(), table.remedies()
    head = [table.first, *(f"{c.over} {c.heading}".strip() for c in table.columns)]
    head += ["source"] if table.sourced else []
    rows = []
    for group, places in table.groups().items():
        if group and len(table.groups()) > 1:
            rows.append([f"*{escape(group)}*"] + [""] * (len(head) - 1))
        rows += [_row(table, i, best, remedies) for i in places]
    lines = [_joined([escape(text) for text in head]), _rule(len(head)), *map(_joined, rows)]
    parts = [f"{'#' * level} {_heading(table)}", escape(table.caption), "\n".join(lines)]
    parts += ["\n".join(f"- ({letter(i)}) {_command(text)}" for i, text in enumerate(remedies))] if remedies else []
    parts += ["\n".join(f"- {escape(note)}" for note in table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def letter(place: int) -> str:
    """a to z, then aa, ab, ..."""
    first, second = divmod(place, 26)
    return (string.ascii_lowercase[first - 1] if first else "") + string.ascii_lowercase[second]


def source(line: Line, remedies: Sequence[str]) -> str:
    """Where the figures are from; of those that are missing the letter of the command."""
    return WORDS[line.source] + (f" ({letter(remedies.index(line.remedy))})" if line.remedy else "")


def _heading(table: Table) -> str:
    return escape(f"{table.name}: {table.title}" if table.name else table.title)


def _row(table: Table, place: int, best: set[tuple[int, int]], remedies: Sequence[str]) -> list[str]:
    line = table.lines[place]
    texts = [escape(cell.text) for cell in line.cells] or ["-"] * len(table.columns)
    cells = [f"**{text}**" if (place, c) in best else text for c, text in enumerate(texts)]
    return [escape(line.label), *cells, *([source(line, remedies)] if table.sourced else [])]


def _joined(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(count: int) -> str:
    return "|---|" + "---:|" * (count - 1)


def _command(text: str) -> str:
    command, _, remark = text.partition("  ")
    return f"`{command}` {remark}".strip() if command.startswith("restorevar ") else text


def escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("\n", " ").replace("<", "&lt;")
