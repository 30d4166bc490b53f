"""All tables of a report, in the paper's order; ours of the same shape follow each."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UserError
from . import paper
from .held_out_tables import held_out_tables
from .measured import Measurements, Variant
from .paired_tables import table_8
from .quality_tables import quality_table
from .sources import Results
from .speed_tables import refiner_table, speed_table, table_4, table_10
from .study_tables import table_3, table_7
from .table import Column, Line, Table, words

#: How a report may be shortened: `--table`.
NUMBERS = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "ours")


def all_tables(results: Results, reference: str | None = None, only: Sequence[str] = ()) -> list[Table]:
    """`reference`: the method that ours are compared with; default: the first measured. Raises UserError."""
    if unknown := set(only) - set(NUMBERS):
        raise UserError(f"--table {min(unknown)}: one of {', '.join(NUMBERS)}")
    measurements = Measurements(results.rows)
    chosen = find_reference(measurements, reference)
    tables = {
        "1": lambda: [quality_table(paper.TABLE_1, measurements)],
        "2": lambda: [quality_table(paper.TABLE_2, measurements)],
        "3": lambda: [table_3(results.analyses)],
        "4": lambda: [table_4(measurements), *(refiner_table(a, name) for name, a in results.ablations.items())],
        "5": lambda: [speed_table(5, results.benches)],
        "6": lambda: [speed_table(6, results.benches)],
        "7": lambda: [table_7(results.analyses)],
        "8": lambda: [table_8(measurements)],
        "9": lambda: [table_9()],
        "10": lambda: [table_10(results.benches)],
        "ours": lambda: [*held_out_tables(measurements, chosen), *methods_table(measurements)],
    }
    return [table for number in NUMBERS if not only or number in only for table in tables[number]()]


def table_9() -> Table:
    """Neither its figures nor what it is about are at hand."""
    caption = "What this table of the paper shows is not at hand, and nothing stands in for it."
    return Table("9", "Not at hand", caption, "row", [Column("")], [Line("table 9 of the paper", "unknown")])


def methods_table(measurements: Measurements) -> list[Table]:
    """What was measured, in full: weights, settings and the libraries that scored."""
    lines = []
    for variant in measurements.methods():
        rows = [row for row in measurements.rows if (row.method, row.sha256) == (variant.method, variant.sha256)]
        versions = dict.fromkeys(f"{name} {version}" for row in rows for name, version in row.versions.items())
        cells = [words(variant.sha256[:12] or None), words(variant.settings), words(", ".join(versions) or None)]
        lines.append(Line(variant.label, "measured", cells))
    if not lines:
        return []
    columns = [Column("sha256"), Column("settings"), Column("scored with")]
    return [Table("methods", "What was measured", "Weights or outputs by their hash.", "method", columns, lines)]


def find_reference(measurements: Measurements, name: str | None) -> Variant | None:
    """By label or name; None if there is nothing measured. Raises UserError for a name that is not there."""
    methods = measurements.methods()
    if name is None:
        return next(iter(methods), None)
    for variant in methods:
        if name == variant.label or variant.is_called(name):
            return variant
    raise UserError(f"no results of {name}; there are those of {', '.join(v.label for v in methods) or 'no method'}")
