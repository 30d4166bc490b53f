"""The figures of the paper, in one place: Rajagopalan et al., "RestoreVAR", arXiv 2505.18047 v3 (ICLR 2026).

Of tables 7 and 8 only what they show is at hand, of table 9 not even that; nothing stands in for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Means of one method on one data set, in the order of the table's metrics; None: not in the paper.
Scores = Sequence[float] | None

GENERATIVE = ("Diff-Plugin", "AutoDIR", "PixWizard", "RestoreVAR")
REGRESSION = ("PromptIR", "InstructIR", "AWRaCLe", "DCPT", "DFPIR")
METHODS = (*REGRESSION, *GENERATIVE)


@dataclass(frozen=True)
class Quality:
    """A table of scores: tables 1 and 2. `protocol` is one of protocols.PROTOCOLS."""

    number: str
    title: str
    protocol: str
    metrics: Sequence[str]
    datasets: Sequence[str]
    rows: Mapping[str, Sequence[Scores]]


# fmt: off
TABLE_1 = Quality(
    "1", "Restoration of the five degradations", "restorevar-512", ("psnr", "ssim", "lpips"),
    ("RESIDE", "Snow100K", "Rain13K", "LOLv1", "GoPro"),
    {
        "PromptIR": ((32.02, .952, .013), (31.98, .924, .115), (29.56, .888, .087), (22.89, .847, .296), (27.21, .817, .250)),  # noqa: E501
        "InstructIR": ((26.90, .952, .017), None, (29.56, .885, .088), (22.81, .836, .132), (28.26, .870, .146)),
        "AWRaCLe": ((30.81, .979, .013), (30.56, .904, .088), (31.26, .908, .068), (21.04, .818, .146), (26.78, .820, .248)),  # noqa: E501
        "DCPT": ((29.10, .968, .017), None, (24.11, .766, .203), (23.67, .863, .106), (27.92, .877, .169)),
        "DFPIR": ((31.39, .979, .012), None, (24.87, .794, .171), (23.12, .853, .123), (28.66, .884, .158)),
        "Diff-Plugin": ((23.23, .765, .091), (21.02, .611, .196), (21.71, .617, .169), (19.38, .713, .195), (21.76, .633, .217)),  # noqa: E501
        "AutoDIR": ((24.48, .780, .081), (19.00, .515, .347), (23.02, .642, .162), (19.43, .766, .135), (23.55, .700, .168)),  # noqa: E501
        "PixWizard": ((21.28, .738, .142), (21.24, .594, .206), (21.38, .596, .180), (15.84, .629, .305), (20.49, .602, .223)),  # noqa: E501
        "RestoreVAR": ((24.67, .821, .074), (24.05, .713, .156), (23.97, .700, .153), (21.72, .782, .126), (23.96, .737, .167)),  # noqa: E501
    },
)

TABLE_2 = Quality(
    "2", "Generalisation to mixed and unseen degradations", "restorevar-512-noref", ("musiq", "clipiqa"),
    ("LHP", "REVIDE", "TOLED", "POLED", "LOLBlur", "CDD"),
    {
        "PromptIR": ((56.780, .366), (61.191, .459), (43.218, .281), (34.536, .303), (33.693, .166), (65.895, .483)),
        "InstructIR": ((58.269, .359), (63.116, .416), (44.985, .298), (23.317, .241), (40.221, .202), (65.491, .482)),
        "AWRaCLe": ((57.889, .333), (59.287, .368), (44.670, .285), (40.533, .332), (38.186, .171), (66.253, .484)),
        "DCPT": ((58.044, .372), (60.011, .446), (44.062, .314), (38.138, .345), (37.393, .175), (68.440, .544)),
        "DFPIR": ((56.483, .330), (61.009, .450), (43.820, .276), (35.668, .289), (36.277, .163), (54.408, .349)),
        "Diff-Plugin": ((57.351, .420), (63.483, .406), (46.219, .311), (35.086, .407), (40.054, .212), (68.791, .578)),
        "AutoDIR": ((58.085, .380), (63.918, .416), (54.585, .341), (48.796, .380), (46.642, .225), (68.575, .571)),
        "PixWizard": ((58.600, .411), (68.487, .420), (45.804, .329), (44.305, .348), (50.708, .268), (68.409, .589)),
        "RestoreVAR": ((57.662, .414), (63.562, .483), (52.374, .338), (48.118, .276), (46.644, .214), (68.941, .572)),
    },
)
#: As printed in its last column. The MUSIQ of four is not the mean of the columns above; which figure is wrong is not
#: known (`wrong_averages`).
TABLE_2_AVERAGES = {
    "PromptIR": (49.219, .343), "InstructIR": (49.900, .333), "AWRaCLe": (51.470, .329), "DCPT": (51.681, .366),
    "DFPIR": (47.611, .310), "Diff-Plugin": (51.831, .389), "AutoDIR": (56.767, .386), "PixWizard": (56.052, .394),
    "RestoreVAR": (56.217, .383),
}

#: User study: mean of three five-point criteria.
TABLE_3 = {
    "PromptIR": 2.11, "InstructIR": 2.93, "AWRaCLe": 2.33, "DCPT": 2.42, "DFPIR": 2.35, "AutoDIR": 3.68,
    "RestoreVAR": 4.36,
}
# fmt: on


def wrong_averages() -> dict[str, float]:
    """Methods whose printed average of MUSIQ is not the mean of their columns -> that mean."""
    means = {m: sum(s[0] for s in scores if s) / len(scores) for m, scores in TABLE_2.rows.items()}
    return {m: mean for m, mean in means.items() if abs(mean - TABLE_2_AVERAGES[m][0]) > 0.01}


@dataclass(frozen=True)
class Refiner:
    """A line of table 4, on RESIDE. `variant` is its name in `restorevar ablate`."""

    label: str
    variant: str
    seconds: float | None
    millions: float | None
    psnr: float
    ssim: float


TABLE_4 = (
    Refiner("no refiner", "refiner-none", None, None, 21.71, 0.690),
    Refiner("HART's diffusion MLP", "refiner-diffusion", 0.0455, 36.06, 23.48, 0.777),
    Refiner("LRT without last-block input", "refiner-no-hidden", 0.0036, 14.61, 21.23, 0.660),
    Refiner("LRT", "full", 0.0061, 22.97, 24.67, 0.821),
)


@dataclass(frozen=True)
class Speed:
    """A row of table 5 (generative methods) or 6 (regression methods): one 512x512 image on one RTX 4090."""

    table: int
    method: str
    steps: int | None
    seconds: float
    tera_flops: float | None
    millions: float


SPEED = (
    Speed(5, "Diff-Plugin", 20, 2.04, 16.08, 859.50),
    Speed(5, "AutoDIR", 100, 8.477, 67.80, 859.50),
    Speed(5, "PixWizard", 60, 8.247, 19.27, 2011.40),
    Speed(5, "RestoreVAR", 10, 0.201, 1.05, 296.95),
    Speed(6, "PromptIR", None, 0.162, None, 35.59),
    Speed(6, "InstructIR", None, 0.023, None, 15.84),
    Speed(6, "AWRaCLe", None, 0.188, None, 186.68),
    Speed(6, "DCPT", None, 0.024, None, 67.88),
    Speed(6, "DFPIR", None, 0.117, None, 182.38),
)

#: Seconds of RestoreVAR's parts on one RTX 4090 and, by the published code, without synchronisation.
TABLE_10 = {"VAE": 0.0086, "transformer": 0.1863, "refiner": 0.0061}

#: Parts of `restorevar bench` -> those of table 10; all others are scales and projections of the transformer. The
#: fidelity branch is ours, and so is the network without scales: they stay by themselves.
_TABLE_10_PARTS = {
    "encoder": "VAE",
    "decoder": "VAE",
    "refiner": "refiner",
    "fidelity branch": "fidelity branch",
    "network": "network",
}


def grouped(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Seconds of the parts of `restorevar bench`, added up as in table 10."""
    sums: dict[str, float] = {}
    for name, seconds in parts:
        group = _TABLE_10_PARTS.get(name, "transformer")
        sums[group] = sums.get(group, 0.0) + seconds
    return sums
