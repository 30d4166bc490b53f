"""The page of `analyze realism`: tables, every photo as a dot, real and synthetic pictures side by side, spectra.

It holds the user's photos, so it is written where the user says and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from ..report import html
from ..report.distributions import plot
from ..webpage import Page, embed
from .findings import Findings, Table
from .photo_statistics import STATISTICS
from .realism import PICTURES, Kind, Sample, spectra, table

#: Side in pixels of the pictures.
SIDE = 320
_STYLE = Path(__file__).with_name("realism.css")


def page(kinds: Sequence[Kind], findings: Findings) -> Page:
    """One file, pictures inside."""
    intro = [findings.claim, findings.rule, f"Command: {findings.about['command']}"]
    links = "".join(f'<li><a href="#{kind.name}">{kind.name}</a></li>' for kind in kinds)
    meanings = "".join(f"<li><strong>{escape(s.name)}</strong>: {escape(s.meaning)}</li>" for s in STATISTICS)
    body = [
        "<main>",
        f"<h1>{escape(findings.title)}</h1>",
        *(f'<p class="soft">{escape(line)}</p>' for line in intro),
        f'<nav aria-label="contents"><ul>{links}</ul></nav>',
        f'<details><summary>What the statistics are</summary><ul class="notes">{meanings}</ul></details>',
        *(_section(kind, verdict.sentence) for kind, verdict in zip(kinds, findings.verdicts, strict=True)),
        f'<section><h2>Power spectra</h2>\n<div class="scroll" tabindex="0">{spectra(kinds)}</div></section>',
        "</main>",
    ]
    return Page(findings.title, "\n".join(body), (html.HERE / "report.css", _STYLE))


def _section(kind: Kind, sentence: str) -> str:
    worst = sorted(kind.real, key=lambda sample: -len(kind.outside(sample)))[:PICTURES]
    real = [(sample, _outside(kind, sample)) for sample in worst]
    made = [(sample, sample.name) for sample in kind.synthetic[:PICTURES]]
    return "\n".join(
        [
            f'<section id="{kind.name}"><h2>{kind.name}</h2>',
            f"<p>{escape(sentence)}</p>",
            "<h3>Real, those first that are least like the synthetic ones</h3>",
            _pictures(real),
            "<h3>Synthetic, as they come</h3>",
            _pictures(made),
            _table(table(kind)),
            f"<details><summary>Photo by photo</summary>{_plots(kind)}</details>",
            "</section>",
        ]
    )


def _outside(kind: Kind, sample: Sample) -> str:
    names = kind.outside(sample)
    return f"{sample.name}: outside in {len(names)}" + (f" ({', '.join(names)})" if names else "")


def _pictures(samples: Sequence[tuple[Sample, str]]) -> str:
    figures = []
    for sample, caption in samples:
        if sample.pixels is not None:
            picture = embed(Image.fromarray(sample.pixels), SIDE)
            size = f'width="{picture.width}" height="{picture.height}"'
            text = escape(caption)
            figures.append(f'<figure><img src="{picture.uri}" {size} alt=""><figcaption>{text}</figcaption></figure>')
    return f'<div class="sheet">{"".join(figures)}</div>'


def _table(found: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        first = f'<th scope="{"col" if tag == "th" else "row"}">{escape(cells[0])}</th>'
        scope = ' scope="col"' if tag == "th" else ""
        return "<tr>" + first + "".join(f"<{tag}{scope}>{escape(cell)}</{tag}>" for cell in cells[1:]) + "</tr>"

    head, rows = row(found.headers, "th"), "\n".join(row(cells, "td") for cells in found.rows)
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(found.caption)}">'
    return f"{region}<table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


def _plots(kind: Kind) -> str:
    plots = []
    for statistic in STATISTICS:
        groups = {
            (name, name): [(sample.name, sample.figures[statistic.name]) for sample in samples]
            for name, samples in kind.groups().items()
        }
        plots.append(plot(statistic.name, statistic.meaning, groups, [*kind.groups()], named=False, from_zero=False))
    return "\n".join(f'<div class="scroll" tabindex="0">{svg}</div>' for svg in plots)
