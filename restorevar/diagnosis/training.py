"""Training of the head: examples of clean photographs, measured once; networks on them; thresholds.

Photographs are cut into folds. A network is trained without each fold and asked about it; what these answers say of
clean photographs sets the thresholds. The network that is kept is trained on all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.photos import find_photos, load_rgb
from ..errors import UserError
from .examples import examples_of
from .network import DiagnosisNetwork
from .report import NAMES
from .weights import save_head

#: Of clean photographs, the share that may be told of each degradation.
FALSE_ALARMS = 0.02


@dataclass(frozen=True)
class Options:
    """How many examples of each photo are made, and how long the network looks at them."""

    examples: int = 6
    epochs: int = 30
    folds: int = 4
    seed: int = 0
    workers: int = 2
    width: int = 48
    dropout: float = 0.1
    rate: float = 3e-3
    decay: float = 1e-2
    batch: int = 128


@dataclass(frozen=True)
class Measured:
    """Measures of all examples: N examples, of photo number `photo_N` each."""

    blocks_NGM: Tensor
    whole_NM: Tensor
    strengths_N5: Tensor
    photo_N: Tensor

    def part(self, chosen_N: Tensor) -> Measured:
        return Measured(
            self.blocks_NGM[chosen_N], self.whole_NM[chosen_N], self.strengths_N5[chosen_N], self.photo_N[chosen_N]
        )


def train(photos: Path, out: Path, options: Options, tell: Callable[[str], None] = lambda line: None) -> str:
    """Writes the head to the folder `out`; returns the sha256 of its weights. The same seed gives the same head.

    Raises UserError if there are fewer photographs than folds, or one cannot be read.
    """
    files = find_photos(photos)
    if len(files) < options.folds:
        raise UserError(f"{photos}: {len(files)} photographs; at least {options.folds} are needed")
    torch.set_num_threads(1)  # small matrices, and sums in the same order on any number of cores
    measured = measure_examples(photos, files, options, tell)
    answers_N5 = answers_of_others(measured, options)
    thresholds = thresholds_for(answers_N5, measured.strengths_N5)
    for line in describe(answers_N5, measured.strengths_N5, thresholds):
        tell(line)
    network = fit(measured, options)
    metadata = {"photos": len(files), "examples": len(measured.photo_N), "seed": options.seed}
    return save_head(network, thresholds, out, {"training": metadata})


def measure_examples(
    root: Path, files: Sequence[Path], options: Options, tell: Callable[[str], None] = lambda line: None
) -> Measured:
    """The slow part; the photos are spread over processes."""
    work = partial(_examples, root=root, count=options.examples, seed=options.seed)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    if options.workers < 2:
        parts = [_told(part, len(files), tell, i) for i, part in enumerate(map(work, files), start=1)]
    else:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            parts = [_told(part, len(files), tell, i) for i, part in enumerate(pool.map(work, files), start=1)]
    blocks, whole, strengths = (torch.cat(column) for column in zip(*parts, strict=True))
    photo_N = torch.arange(len(files)).repeat_interleave(options.examples)
    return Measured(blocks, whole, strengths, photo_N)


def _told(
    part: tuple[Tensor, Tensor, Tensor], total: int, tell: Callable[[str], None], done: int
) -> tuple[Tensor, Tensor, Tensor]:
    if done % 50 == 0 or done == total:
        tell(f"measured {done} of {total} photographs")
    return part


def _examples(file: Path, root: Path, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.set_num_threads(1)
    made = list(examples_of(load_rgb(file), file.relative_to(root).as_posix(), count, seed))
    return (
        torch.stack([example.blocks for example in made]),
        torch.stack([example.whole for example in made]),
        torch.stack([example.strengths for example in made]),
    )


# ------------------------------------------------------------------------------------------------ the network


def fit(measured: Measured, options: Options) -> DiagnosisNetwork:
    """A network in eval mode: cross-entropy with the strengths, so that its answers are expectations."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = DiagnosisNetwork(options.width, options.dropout)
        network.fit_scale(measured.blocks_NGM, measured.whole_NM)
        count = len(measured.photo_N)
        steps = options.epochs * max(1, count // options.batch)
        optimizer = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=options.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randint(count, (min(options.batch, count),))
            logits = network(measured.blocks_NGM[chosen], measured.whole_NM[chosen])
            loss = F.binary_cross_entropy_with_logits(logits, measured.strengths_N5[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def answers_of_others(measured: Measured, options: Options) -> Tensor:
    """N5 strengths told by networks that have not seen the photo. Neighbours in a folder share a fold."""
    fold_N = measured.photo_N * options.folds // (int(measured.photo_N.max()) + 1)
    answers_N5 = torch.zeros_like(measured.strengths_N5)
    for fold in range(options.folds):
        network = fit(measured.part(fold_N != fold), options)
        asked = measured.part(fold_N == fold)
        with torch.no_grad():
            answers_N5[fold_N == fold] = network(asked.blocks_NGM, asked.whole_NM).sigmoid()
    return answers_N5


# --------------------------------------------------------------------------------------------- the thresholds


def thresholds_for(answers_N5: Tensor, strengths_N5: Tensor) -> dict[str, float]:
    """The strength of each degradation that FALSE_ALARMS of the clean examples reach."""
    clean_N = (strengths_N5 == 0).all(1)
    limits = torch.quantile(answers_N5[clean_N], 1 - FALSE_ALARMS, dim=0)
    return {name: float(limit.clamp(0.1, 0.9)) for name, limit in zip(NAMES, limits, strict=True)}


def describe(answers_N5: Tensor, strengths_N5: Tensor, thresholds: dict[str, float]) -> list[str]:
    """What the folds say: how much of each degradation is found, and of how many clean examples something is told."""
    limits_5 = torch.tensor([thresholds[name] for name in NAMES])
    told_N5 = answers_N5 >= limits_5
    lines = []
    for i, name in enumerate(NAMES):
        has_N = strengths_N5[:, i] > 0
        error = (answers_N5[has_N, i] - strengths_N5[has_N, i]).abs().mean()
        found = told_N5[has_N, i].float().mean()
        lines.append(f"{name}: threshold {thresholds[name]:.2f}, found {found:.0%}, error of strength {error:.2f}")
    clean_N = (strengths_N5 == 0).all(1)
    lines.append(f"false alarms on clean examples: {told_N5[clean_N].any(1).float().mean():.1%}")
    return lines
