"""Tables as LaTeX, to be \\input: booktabs, and graphicx for those wider than a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from .markdown import letter, source
from .table import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    **{c: "\\" + c for c in "&%$#_{}"},
}


def document(title: str, intro: Sequence[str], tables: Sequence[Table]) -> str:
    r"""All tables one after the other; no preamble, which is the reader's."""
    comments = [f"% {title}", *(f"% {line}" for line in intro), r"% needs \usepackage{booktabs,graphicx}", ""]
    return "\n".join([*comments, *map(latex, tables)])


def latex(table: Table) -> str:
    best, remedies = table.best(), table.remedies()
    last = ["source"] if table.sourced else []
    count = 1 + len(table.columns) + len(last)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.title)}. {escape(table.caption)}}}",
        rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', table.number.lower())}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}{'l' * len(last)}}}",
        r"\toprule",
        *_head(table, last),
        r"\midrule",
    ]
    for i, (group, places) in enumerate(table.groups().items()):
        if len(table.groups()) > 1:
            lines += [r"\midrule"] if i else []
            lines += [rf"\multicolumn{{{count}}}{{l}}{{\emph{{{escape(group)}}}}} \\"] if group else []
        for place in places:
            line = table.lines[place]
            texts = [escape(cell.text) for cell in line.cells] or ["-"] * len(table.columns)
            cells = [rf"\textbf{{{text}}}" if (place, c) in best else text for c, text in enumerate(texts)]
            lines.append(_row([escape(line.label), *cells, *([escape(source(line, remedies))] if last else [])]))
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\footnotesize\raggedright"] + [
        rf"({letter(i)}) \texttt{{{escape(text)}}}\\" for i, text in enumerate(remedies)
    ]
    lines += [rf"{escape(note)}\\" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def _head(table: Table, last: Sequence[str]) -> list[str]:
    """One row of headings, or two where columns stand below a data set."""
    titles = _row([escape(table.first), *(escape(c.heading) for c in table.columns), *last])
    if not any(column.over for column in table.columns):
        return [titles]
    upper, rules, start = [""], [], 2
    for over, columns in groupby(table.columns, lambda column: column.over):
        width = len([*columns])
        upper.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(over)}}}")
        rules += [rf"\cmidrule(lr){{{start}-{start + width - 1}}}"] if over else []
        start += width
    return [_row([*upper, *[""] * len(last)]), "".join(rules), titles]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def escape(text: str) -> str:
    """Two hyphens stay two: LaTeX would draw a dash, and options would not be what they are."""
    return "".join(_SPECIAL.get(c, c) for c in text.replace("\n", " ")).replace("--", "-{}-")
