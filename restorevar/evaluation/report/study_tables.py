"""Tables 3 and 7: the blind study, from what `restorevar study analyze` found."""

from __future__ import annotations

from collections.abc import Sequence

from ..study import CRITERIA, Analysis
from . import comparison, paper, remedies
from .comparison import Compared
from .table import EMPTY, Column, Line, Table, mean_cell, number, words

#: The paper compares RestoreVAR with these.
_COMPARED = [method for method in paper.TABLE_3 if method != "RestoreVAR"]


def table_3(analyses: Sequence[Analysis]) -> Table:
    """Mean ratings of each method: the paper's, then those of each study."""
    criteria = list(
        dict.fromkeys(name for a in analyses for each in a.means.values() for name in each if name != "all")
    )
    criteria = criteria or [c.id for c in CRITERIA]
    columns = [Column(name, "", "higher") for name in ("all", *criteria)] + [Column("raters"), Column("photos")]
    lines = [
        Line(method, "paper", [number(value, 2), *[EMPTY] * (len(criteria) + 2)], group="the paper", contest="paper")
        for method, value in paper.TABLE_3.items()
    ]
    for analysis in analyses:
        group = f"{analysis.title} ({analysis.study})"
        for method, means in analysis.means.items():
            cells = [mean_cell(means.get(name), 2) for name in ("all", *criteria)]
            cells += [words(analysis.raters), words(analysis.questions)]
            lines.append(Line(method, "measured", cells, group=group, contest=group))
    if not analyses:
        lines.append(Line("a study of ours", "unmeasured", remedy=remedies.STUDY))
    units = ", ".join(dict.fromkeys(a.unit for a in analyses)) or "rater"
    caption = (
        f"Five points, three criteria, methods hidden, mean ± half of the 95 % interval (t; unit: {units}). Photos, "
        "raters and wording of the paper's study are others: its figures and ours are not compared."
    )
    return Table("3", "User study", caption, "method", columns, lines)


def table_7(analyses: Sequence[Analysis]) -> Table:
    """Paired differences of the ratings."""
    lines: list[Line] = []
    for analysis in analyses:
        group = f"{analysis.title} ({analysis.study}), unit: {analysis.unit}"
        for c in analysis.comparisons:
            compared = Compared(c.other, c.other, c.difference)
            cells = comparison.cells(compared, analysis.reference, c.t_holm, c.wilcoxon_holm)
            lines.append(Line(f"{analysis.reference} - {c.other}", "measured", cells, group=group))
    if not analyses:
        lines = [Line(f"RestoreVAR - {method}", "unmeasured", remedy=remedies.STUDY) for method in _COMPARED]
    lines.append(Line("the paper's figures", "unknown", group="the paper"))
    caption = f"Mean rating of the first less that of the other. {comparison.ABOUT}"
    return Table("7", "User study, paired differences", caption, "comparison", comparison.COLUMNS, lines)
