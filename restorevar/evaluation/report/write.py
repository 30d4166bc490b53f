"""`restorevar report`: from the files to the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.manifest import check_place, write_text
from ...errors import UserError
from ..webpage import Page
from . import latex, markdown
from .distributions import distributions
from .gallery import gallery
from .html import page
from .measured import Measurements
from .sources import Results, load
from .table import Table
from .tables import all_tables, find_reference

FORMATS = ("md", "latex", "html")
_SUFFIXES = {".md": "md", ".tex": "latex", ".html": "html", ".htm": "html"}
TITLE = "restorevar: results"
INTRO = (
    "Figures of the paper (RestoreVAR, arXiv 2505.18047 v3) and figures measured here; each line says which. Figures "
    "measured under another protocol or on other data than the paper's stand in tables of their own."
)


@dataclass(frozen=True)
class Options:
    """What `restorevar report` takes. `gallery`: images of each data set, in HTML only."""

    results: Sequence[Path]
    out: Path
    format: str | None = None
    reference: str | None = None
    tables: Sequence[str] = ()
    gallery: int = 3
    title: str = TITLE


def report(options: Options, tell: Callable[[str], None] = lambda line: None) -> str:
    """Write it; returns what it holds in a line. Raises UserError for what the user can mend, before the work."""
    format_of(options.out, options.format)
    if options.gallery < 0:
        raise UserError("--gallery is a number from 0")
    check_place(options.out)
    return write_report(load(options.results, tell), options, tell)


def write_report(results: Results, options: Options, tell: Callable[[str], None] = lambda line: None) -> str:
    """Of results that are at hand; those that the options name are not looked at."""
    kind = format_of(options.out, options.format)
    tables = all_tables(results, options.reference, options.tables)
    if kind != "html":
        write_tables(options.out, kind, options.title, [INTRO], tables)
        return f"{len(tables)} tables"
    built, pictures = _page(options, results, tables, tell)
    write_text(built.html(), options.out)
    return f"{len(tables)} tables, {pictures} pictures"


def write_tables(out: Path, kind: str | None, title: str, intro: Sequence[str], tables: Sequence[Table]) -> None:
    """Only tables, in any of the formats; `kind` None goes by the suffix."""
    found = format_of(out, kind)
    if found == "html":
        write_text(page(title, intro, tables, [], []).html(), out)
    else:
        write_text((markdown if found == "md" else latex).document(title, intro, tables), out)


def format_of(out: Path, kind: str | None) -> str:
    """Raises UserError where neither says."""
    found = kind or _SUFFIXES.get(out.suffix.lower())
    if found not in FORMATS:
        raise UserError(f"--format is one of {', '.join(FORMATS)}, or -o ends in {', '.join(_SUFFIXES)}")
    return found


def _page(options: Options, results: Results, tables: Sequence[Table], tell: Callable[[str], None]) -> tuple[Page, int]:
    """With how many pictures it has."""
    measurements = Measurements(results.rows)
    reference = find_reference(measurements, options.reference)
    items = gallery(measurements, reference, options.gallery, results.folders, tell) if options.gallery else []
    built = page(options.title, [INTRO], tables, distributions(measurements), items)
    return built, sum(1 + len(item.afters) for item in items)
