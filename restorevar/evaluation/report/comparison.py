"""Paired differences as lines: the shape of tables 7 and 8, whatever is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..metrics import Better
from ..statistics import Difference, Interval, holm
from .table import EMPTY, Cell, Column, Line, number, words

COLUMNS = (
    Column("n"),
    Column("sets"),
    Column("difference"),
    Column("95 %, t"),
    Column("95 %, bootstrap"),
    Column("p, t"),
    Column("p, t, Holm"),
    Column("p, Wilcoxon"),
    Column("p, Wilcoxon, Holm"),
    Column("better in"),
    Column("favours"),
)
#: What the columns mean, for captions.
ABOUT = (
    "Mean of the paired differences, data sets counting alike; intervals by Student's t and by bootstrap (BCa); "
    "paired t-test and Wilcoxon signed-rank, both two-sided, as they are and adjusted by Holm over all lines of this "
    "table. "
    '"Favours" whom both adjusted tests call better at 0.05.'
)
LEVEL = 0.05


@dataclass(frozen=True)
class Compared:
    """One line to be: reference less other, in one metric."""

    label: str
    other: str
    difference: Difference
    better: Better | None = "higher"
    digits: int = 2
    group: str = ""


def lines(compared: Sequence[Compared], reference: str) -> list[Line]:
    """With Holm's adjustment over all of them."""
    t, wilcoxon = (holm(getattr(c.difference, name) for c in compared) for name in ("t_p", "wilcoxon_p"))
    return [
        Line(c.label, "measured", cells(c, reference, t_holm, w_holm), group=c.group)
        for c, t_holm, w_holm in zip(compared, t, wilcoxon, strict=True)
    ]


def cells(c: Compared, reference: str, t_holm: float | None, wilcoxon_holm: float | None) -> list[Cell]:
    d = c.difference
    return [
        number(d.n, 0),
        number(d.sets, 0),
        Cell(f"{d.mean:+.{c.digits}f}", d.mean),
        interval(d.t, c.digits),
        interval(d.bootstrap, c.digits),
        p_value(d.t_p),
        p_value(t_holm),
        p_value(d.wilcoxon_p),
        p_value(wilcoxon_holm),
        better_in(d, c.better),
        words(_favoured(c, reference, t_holm, wilcoxon_holm)),
    ]


def _favoured(c: Compared, reference: str, t_holm: float | None, wilcoxon_holm: float | None) -> str | None:
    if c.better is None or t_holm is None or wilcoxon_holm is None or max(t_holm, wilcoxon_holm) >= LEVEL:
        return None
    return reference if (c.difference.mean > 0) == (c.better == "higher") else c.other


def better_in(found: Difference, better: Better | None) -> Cell:
    """Share of the images in which the first is the better one."""
    if better is None:
        return EMPTY
    wins = found.wins if better == "higher" else 1 - found.wins
    return Cell(f"{100 * wins:.0f} %", wins)


def interval(found: Interval | None, digits: int) -> Cell:
    if found is None:
        return words(None)
    return Cell(f"{found.low:+.{digits}f} to {found.high:+.{digits}f}", found.low)


def p_value(p: float | None) -> Cell:
    if p is None:
        return words(None)
    return Cell("< 0.0001" if p < 1e-4 else f"{p:.2g}", p)
