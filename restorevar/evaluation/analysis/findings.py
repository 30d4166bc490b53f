"""What a study found: a claim, verdicts computed from figures, tables, charts; as JSON and as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ... import __version__
from ...acceleration import device_name
from ...data.manifest import write_json, write_text
from ...pipeline import Restorer

Word = Literal["supports", "contradicts", "leaves open"]


@dataclass(frozen=True)
class Verdict:
    """One sentence, and the figures that it was made from.

    subject   what it is about: a task, or "all"
    word      what the figures do to the claim; None where there is none to judge
    where     which part of the study, where it has several
    """

    subject: str
    word: Word | None
    sentence: str
    where: str = ""
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Numbers to the right, the first column to the left."""
        rule = "| --- |" + " ---: |" * (len(self.headers) - 1)
        lines = ["| " + " | ".join(row) + " |" for row in (self.headers, *self.rows)]
        return "\n".join([self.caption, "", lines[0], rule, *lines[1:]])


@dataclass
class Findings:
    """What a study writes.

    claim     of the paper, or the question that was asked; `rule` how a verdict on it is reached
    about     with what the figures have to be told: model, settings, versions, device, date, command
    charts    name -> SVG
    records   what was measured, pair by pair; plain JSON types
    """

    title: str
    claim: str
    rule: str
    about: Mapping[str, Any]
    verdicts: list[Verdict] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: dict[str, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything but the charts, which are drawn from it."""
        parts = {name: getattr(self, name) for name in ("title", "claim", "rule", "about", "records")}
        return parts | {"verdicts": [asdict(v) for v in self.verdicts], "tables": [asdict(t) for t in self.tables]}

    def markdown(self, images: Mapping[str, str] | None = None) -> str:
        """One section. `images` tells where the charts lie; those that it does not name are left out."""
        about = ", ".join(f"{name} {value}" for name, value in self.about.items() if name != "command" and value != "")
        command = [f"Command: `{self.about['command']}`"] if self.about.get("command") else []
        sentences = "\n".join(f"- {verdict.sentence}" for verdict in self.verdicts)
        charts = [f"![{self.title}]({path})" for name, path in (images or {}).items() if name in self.charts]
        tables = [table.markdown() for table in self.tables]
        parts = [
            f"## {self.title}",
            self.claim,
            self.rule,
            sentences,
            *charts,
            *tables,
            *command,
            f"Measured with {about}.",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def write(self, json: Path | None, markdown: Path | None) -> None:
        """The charts go beside the markdown, as STEM-NAME.svg. Raises UserError where a file cannot be written."""
        if json is not None:
            write_json(self.as_json(), json)
        if markdown is not None:
            images = {name: markdown.with_name(f"{markdown.stem}-{name}.svg") for name in self.charts}
            for name, path in images.items():
                write_text(self.charts[name], path)
            write_text(self.markdown({name: path.name for name, path in images.items()}), markdown)


# ---------------------------------------------------------------------------------------------------- the figures


def about(restorer: Restorer, command: str = "", size: int | None = None) -> dict[str, Any]:
    """What figures have to be told with; plain JSON types. `size`: photos were shrunken to it."""
    libraries = f"restorevar {__version__} torch {torch.__version__} numpy {np.__version__}"
    return {
        "model": restorer.name,
        "sha256": restorer.sha256[:12],
        **({} if size is None else {"photos of at most": f"{size} pixels"}),
        "device": f"{restorer.device} ({device_name(restorer.device)}, {torch.get_num_threads()} threads)",
        "dtype": restorer.settings["dtype"],
        "versions": libraries,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "command": command,
    }
