"""From an interval to a word, from words to a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from ..statistics import Mean
from .findings import Verdict, Word


def judge(mean: Mean) -> Word:
    """Of a figure that the claim wants positive: its whole interval decides."""
    if mean.interval is None or mean.interval.low <= 0 <= mean.interval.high:
        return "leaves open"
    return "supports" if mean.mean > 0 else "contradicts"


def judge_all(*means: Mean) -> Word:
    """Of a claim that wants all of them positive: one that clearly is not contradicts it."""
    words = [judge(mean) for mean in means]
    if "contradicts" in words:
        return "contradicts"
    return "supports" if set(words) == {"supports"} else "leaves open"


def percent(mean: Mean) -> str:
    """A mean of shares with its interval: "71 % (66 to 76)"."""
    text = f"{100 * mean.mean:.0f} %"
    if mean.interval is None:
        return text
    return f"{text} ({100 * mean.interval.low:.0f} to {100 * mean.interval.high:.0f})"


def points(mean: Mean) -> str:
    """A mean of shares in percentage points, with its interval: "+71 points (95 % interval +66 to +76)"."""
    text = f"{100 * mean.mean:+.0f} points"
    if mean.interval is None:
        return f"{text} (too few photos for an interval)"
    return f"{text} (95 % interval {100 * mean.interval.low:+.0f} to {100 * mean.interval.high:+.0f})"


def decibels(mean: Mean) -> str:
    """ "+1.20 dB (95 % interval +0.80 to +1.60)"."""
    if mean.interval is None:
        return f"{mean.mean:+.2f} dB"
    return f"{mean.mean:+.2f} dB (95 % interval {mean.interval.low:+.2f} to {mean.interval.high:+.2f})"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def overall(verdicts: Sequence[Verdict], question: str, where: str = "") -> Verdict:
    """One sentence on all: `question` is what the claim says, as in "That coarse scales carry the degradation"."""
    groups: dict[Word, list[str]] = {}
    for verdict in verdicts:
        if verdict.word is not None:
            groups.setdefault(verdict.word, []).append(verdict.subject)
    if len(groups) == 1:
        (word,) = groups
        return Verdict("all", word, f"**{question}: the figures {_does(word)} for {listed(groups[word])}.**", where)
    parts = [f"{_does(word)} for {listed(names)}" for word, names in groups.items()]
    return Verdict("all", "leaves open", f"**{question}: the figures {listed(parts)}.**", where)


def to_claim(word: Word) -> str:
    """ "supports the claim", and so on."""
    return "leaves the claim open" if word == "leaves open" else f"{word} the claim"


def _does(word: Word) -> str:
    return {"supports": "support it", "contradicts": "contradict it", "leaves open": "leave it open"}[word]
