"""The key: which picture of which question is whose. It stays with whoever runs the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...data.manifest import read_json, write_json
from ...errors import UserError

FORMAT = "restorevar-study-key-1"
#: Ratings go from 1 to this.
POINTS = 5


@dataclass(frozen=True)
class Criterion:
    """What a picture is rated for, as the rater reads it, and what 1 and 5 mean."""

    id: str
    question: str
    low: str = "not at all"
    high: str = "completely"


#: The paper had three five-point criteria too; how it worded them is not at hand.
CRITERIA = (
    Criterion("removal", "Are haze, rain, snow, darkness or blur gone?"),
    Criterion("fidelity", "Does it still show the same scene, with nothing invented or lost?"),
    Criterion("quality", "Does it look like a good photograph, without artefacts?", "poor", "excellent"),
)


@dataclass(frozen=True)
class Question:
    """One input photo. `order`: the methods in the order in which the page shows them."""

    id: str
    name: str
    dataset: str
    order: Sequence[str]


@dataclass(frozen=True)
class Key:
    """A study. Its id stands in the page, in all ratings and here, so that they cannot be mixed up."""

    study: str
    title: str
    methods: Sequence[str]
    criteria: Sequence[Criterion]
    questions: Sequence[Question]

    def write(self, path: Path) -> None:
        """Raises UserError if it cannot be written."""
        write_json({"format": FORMAT, **asdict(self)}, path)

    @classmethod
    def read(cls, path: Path) -> Key:
        """Raises UserError naming the file for whatever is not such a key."""
        found = read_json(path)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise UserError(f"{path}: is not the key of a study")
        try:
            return cls(
                study=str(found["study"]),
                title=str(found["title"]),
                methods=tuple(map(str, found["methods"])),
                criteria=tuple(Criterion(**criterion) for criterion in found["criteria"]),
                questions=tuple(Question(**question) for question in found["questions"]),
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: is a damaged key ({error})") from None
