"""Tables, distributions and gallery as one HTML page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from ..webpage import Page
from .gallery import Item
from .table import WORDS, Column, Line, Table

HERE = Path(__file__).parent


def page(
    title: str, intro: Sequence[str], tables: Sequence[Table], plots: Sequence[str], items: Sequence[Item]
) -> Page:
    """`plots`: SVG, as distributions.py draws them."""
    sections = [(_anchor(table), _name(table), _table(table)) for table in tables]
    if plots:
        sections.append(("distributions", "Image by image", _plots(plots)))
    if items:
        sections.append(("gallery", "Gallery", _gallery(items)))
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, name, _ in sections)
    body = [
        "<main>",
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="soft">{escape(line)}</p>' for line in intro),
        f'<nav aria-label="contents"><details open><summary>Contents</summary><ul>{links}</ul></details></nav>',
        *(
            f'<section id="{anchor}"><h2>{escape(name)}</h2>\n{content}\n</section>'
            for anchor, name, content in sections
        ),
        "</main>",
    ]
    return Page(title, "\n".join(body), (HERE / "report.css", HERE / "report.js"))


def _anchor(table: Table) -> str:
    return "table-" + re.sub(r"[^a-z0-9]+", "-", table.number.lower()).strip("-")


def _name(table: Table) -> str:
    return f"{table.name}: {table.title}" if table.name else table.title


# ------------------------------------------------------------------------------------------------------ tables


def _table(table: Table) -> str:
    best = table.best()
    bodies = []
    width = 1 + len(table.columns) + table.sourced
    for group, places in table.groups().items():
        head = ""
        if group and len(table.groups()) > 1:
            head = f'<tr class="group"><th colspan="{width}" scope="rowgroup">{escape(group)}</th></tr>'
        rows = "\n".join(_row(table, table.lines[i], {c for line, c in best if line == i}) for i in places)
        bodies.append(f"<tbody>{head}\n{rows}\n</tbody>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return "\n".join(
        [
            f'<p class="caption">{escape(table.caption)}</p>',
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(_name(table))}"><table>',
            f"<thead>{_head(table)}</thead>",
            *bodies,
            "</table></div>",
            f'<ul class="notes">{notes}</ul>' if notes else "",
        ]
    )


def _head(table: Table) -> str:
    """A row of headings that sort, below one of data sets where columns share them."""
    upper = ""
    if any(column.over for column in table.columns):
        cells = ["<td></td>"]
        for over, columns in groupby(table.columns, lambda column: column.over):
            cells.append(f'<th colspan="{len([*columns])}" scope="colgroup">{escape(over)}</th>')
        upper = f"<tr>{''.join(cells)}{'<td></td>' if table.sourced else ''}</tr>"
    first = '<th scope="col"><button type="button">' + escape(table.first) + "</button></th>"
    last = '<th scope="col">source</th>' if table.sourced else ""
    return f"{upper}<tr>{first}{''.join(map(_heading, table.columns))}{last}</tr>"


def _heading(column: Column) -> str:
    first = ' data-first="ascending"' if column.better == "lower" else ""
    label = f' aria-label="{escape(f"{column.over} {column.title}")}"' if column.over else ""
    return f'<th scope="col"{first}><button type="button"{label}>{escape(column.heading)}</button></th>'


def _row(table: Table, line: Line, best: set[int]) -> str:
    label = f'<th scope="row">{escape(line.label)}</th>'
    source = f'<td class="source">{WORDS[line.source]}</td>' if table.sourced else ""
    if not line.cells:
        text = escape(WORDS[line.source])
        if line.remedy:
            command, _, remark = line.remedy.partition("  ")
            shown = f"<code>{escape(command)}</code>" if command.startswith("restorevar ") else escape(command)
            text += f": {shown} {escape(remark)}"
        width = len(table.columns) + table.sourced
        return f'<tr class="open">{label}<td class="remedy" colspan="{width}">{text}</td></tr>'
    cells = []
    for c, cell in enumerate(line.cells):
        value = "" if cell.value is None else f' data-value="{cell.value!r}"'
        text = escape(cell.text)
        cells.append(
            f'<td class="best"{value}><strong>{text}</strong></td>' if c in best else f"<td{value}>{text}</td>"
        )
    return f'<tr class="{line.source}">{label}{"".join(cells)}{source}</tr>'


def _plots(plots: Sequence[str]) -> str:
    about = (
        "Every dot is one image: its score less that of the degraded input. The box holds the middle half, the bar is "
        "the median. Rest on a dot to see which image it is."
    )
    figures = "\n".join(
        f'<div class="scroll" tabindex="0" role="region" aria-label="plot">{svg}</div>' for svg in plots
    )
    return f'<p class="caption">{about}</p>\n{figures}'


# ----------------------------------------------------------------------------------------------------- gallery


def _gallery(items: Sequence[Item]) -> str:
    about = (
        "Degraded on the left, restored on the right of the line: drag it, or press the arrow keys. Of each data set "
        "the images are spread evenly from the least to the most gained, not chosen for their looks. Pictures are "
        "shrunken."
    )
    sets = []
    for dataset, group in groupby(items, lambda item: item.dataset):
        figures = "\n".join(map(_item, group))
        sets.append(f'<h3>{escape(dataset)}</h3>\n<div class="gallery">{figures}</div>')
    return f'<p class="caption">{escape(about)}</p>\n' + "\n".join(sets)


def _item(item: Item) -> str:
    name = escape(f"{item.dataset}, {item.image}")
    size = f'width="{item.before.width}" height="{item.before.height}"'
    afters = "".join(
        f'<img class="after" src="{picture.uri}" {size} alt="{escape(label)}"{" hidden" if i else ""}>'
        for i, (label, picture) in enumerate(item.afters)
    )
    choices = "".join(f"<option>{escape(label)}</option>" for label, _ in item.afters)
    chooser = f'<select aria-label="picture on the right of {name}">{choices}</select>' if len(item.afters) > 1 else ""
    return "\n".join(
        [
            f'<figure class="compare" data-title="{name}">',
            f'<div class="stack"><img class="before" src="{item.before.uri}" {size} alt="degraded input">{afters}'
            '<div class="divider"></div>'
            f'<input type="range" min="0" max="100" value="50" aria-label="{name}: where the pictures meet"></div>',
            f"<figcaption><span>{escape(item.image)}: {escape(item.about)}</span>{chooser}"
            f'<button type="button" class="enlarge" aria-label="enlarge {name}">enlarge</button></figcaption>',
            "</figure>",
        ]
    )
