"""Configs of the networks: plain frozen dataclasses, checked when made, saved with the weights as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

Grid = tuple[int, int]

#: The ten scales of the published 512 px model (paper section 4.2); the last is the latent grid, 512 / 16.
PAPER_SIDES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
#: The ten scales of VAR at 256 px, whose weights the published model starts from.
VAR_256_SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
#: Pixels a side of the cells in which the veil before a photo is estimated (veil.py).
VEIL_CELL = 4


@dataclass(frozen=True)
class ScaleSchedule:
    """Sides of the square token maps, coarse to fine, for the native window.

    Other windows get the same number of scales, each in the same proportion to the final grid.
    """

    sides: tuple[int, ...] = PAPER_SIDES

    def __post_init__(self) -> None:
        if len(self.sides) < 2 or any(a >= b for a, b in pairwise(self.sides)):
            raise ValueError(f"a scale schedule needs two or more growing sides, not {self.sides}")
        if self.sides[0] < 1:
            raise ValueError(f"a token map cannot have side {self.sides[0]}")

    def __len__(self) -> int:
        return len(self.sides)

    @property
    def native(self) -> Grid:
        """The final grid the schedule was written for."""
        return self.sides[-1], self.sides[-1]

    def grids(self, grid: Grid | None = None) -> list[Grid]:
        """(h, w) of every scale for a final `grid` (H, W); the native one when none is given.

        A side is rounded half up and never below one, so coarse scales of a small window may repeat.
        """
        if grid is None:
            grid = self.native
        last = self.sides[-1]

        def side(scale: int, whole: int) -> int:
            return max(1, (2 * scale * whole + last) // (2 * last))

        return [(side(s, grid[0]), side(s, grid[1])) for s in self.sides]

    def bounds(self, grid: Grid | None = None) -> list[tuple[int, int]]:
        """(begin, end) of every scale in the concatenated sequence of L tokens."""
        ends = []
        total = 0
        for h, w in self.grids(grid):
            ends.append((total, total + h * w))
            total += h * w
        return ends

    def length(self, grid: Grid | None = None) -> int:
        """L, the tokens of all scales together."""
        return self.bounds(grid)[-1][1]


@dataclass(frozen=True)
class VQVAEConfig:
    """The multi-scale VQVAE. Defaults are the published one (VAR's, 108.95 M parameters).

    `widths` are the channels per resolution level, finest first; each further level halves the resolution.
    `patch` folds a patch x patch square of pixels into channels before the first level.
    `norm` "group" is the published GroupNorm; "channel" normalises every pixel over its channels, which
    depends on nothing outside the pixel, so that windows of one photo agree, and trains faster on CPUs.
    """

    widths: tuple[int, ...] = (160, 160, 320, 320, 640)
    blocks: int = 2
    patch: int = 1
    latent_channels: int = 32
    codebook_size: int = 4096
    attention: bool = True
    norm: Literal["group", "channel"] = "group"
    phi_count: int = 4
    phi_ratio: float = 0.5

    def __post_init__(self) -> None:
        if not self.widths or self.blocks < 1 or self.patch < 1:
            raise ValueError("a VQVAE needs at least one level, one block a level and a patch of 1 or more")
        _check_choice("VQVAE norm", self.norm, ("group", "channel"))
        if self.norm == "group" and any(width % 32 for width in self.widths):
            raise ValueError(f"GroupNorm with 32 groups needs widths divisible by 32, not {self.widths}")

    @property
    def downsample(self) -> int:
        """Pixels per latent cell, along one side."""
        return self.patch * 2 ** (len(self.widths) - 1)


@dataclass(frozen=True)
class TransformerConfig:
    """The next-scale transformer. Defaults are the published one (VAR-d16 without AdaLN, 273.98 M).

    `aligned_condition` adds the degraded latent, area-resized to the scale, to that scale's input tokens:
    ours, off in the published model; learns much faster from little data.
    `positions` "absolute" is what the paper compares rotary ones with (figure 11): VAR's learned vector per token,
    which fixes the window.
    """

    depth: int = 16
    width: int = 1024
    heads: int = 16
    mlp_ratio: float = 4.0
    classes: int = 1000
    rope_base: float = 10000.0
    aligned_condition: bool = False
    drop_path: float = 0.1 * 16 / 24
    positions: Literal["rotary", "absolute"] = "rotary"

    def __post_init__(self) -> None:
        _check_choice("transformer positions", self.positions, ("rotary", "absolute"))
        if self.width % self.heads or self.head_width % 4:
            raise ValueError(f"width {self.width} over {self.heads} heads must give head widths divisible by 4")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class RefinerConfig:
    """The latent refiner transformer (LRT, paper section 3.4). Defaults are the published one (22.97 M).

    `positions` "learned" is the published table, which fixes the window; "rotary" works for any window.
    The rest are the rows of the paper's table 4. `kind` "none" keeps the discrete latent; "diffusion" is HART's head,
    which uses `depth`, `width` and `steps` alone and is HART's in size with depth 6 and width 1024 (36.06 M).
    `hidden=False` is the LRT without the transformer's hidden states (14.61 M).
    """

    depth: int = 12
    width: int = 384
    heads: int = 6
    mlp_width: int = 768
    positions: Literal["learned", "rotary"] = "learned"
    kind: Literal["lrt", "none", "diffusion"] = "lrt"
    hidden: bool = True
    steps: int = 8

    def __post_init__(self) -> None:
        _check_choice("refiner kind", self.kind, ("lrt", "none", "diffusion"))
        _check_choice("refiner positions", self.positions, ("learned", "rotary"))
        if self.kind != "lrt" and not self.hidden:
            raise ValueError(f"only the lrt refiner can do without hidden states, not {self.kind!r}")
        if self.kind == "lrt" and self.width % self.heads:
            raise ValueError(f"refiner width {self.width} is not divisible by {self.heads} heads")
        if self.kind == "lrt" and self.positions == "rotary" and self.width // self.heads % 4:
            raise ValueError(f"rotary positions need head widths divisible by 4, not {self.width // self.heads}")
        if self.kind == "diffusion" and (self.depth < 1 or not 1 <= self.steps <= 1000):
            raise ValueError("a diffusion refiner needs at least one block and 1 to 1000 steps")

    @property
    def any_window(self) -> bool:
        """Whether latents of any grid can be refined; a learned table fits one grid only."""
        return self.kind != "lrt" or self.positions == "rotary"


@dataclass(frozen=True)
class FidelityConfig:
    """The fidelity branch, ours: detail comes from the degraded image itself (see models/fidelity.py).

    `width` channels at the finest level; `encoder` and `decoder` count the blocks per level, finest first, the last
    number also serving the levels after it; `middle` those at the latent's resolution. With `latent` the branch also
    looks at the restored latent; with `dark_channel` at the photo as the dark channel prior restores it, too, and may
    take from that. With `tone` a small network sets light and veil of the whole window first (tone.py), with `focus` a
    smaller one how much it is sharpened (focus.py). With `fuse` its features enter the decoder, else each makes a
    picture of its own.
    """

    width: int = 32
    encoder: tuple[int, ...] = (1, 2, 4)
    middle: int = 8
    decoder: tuple[int, ...] = (1,)
    default_weight: float = 1.0
    latent: bool = False
    fuse: bool = True
    dark_channel: bool = False
    tone: bool = False
    focus: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or not self.encoder or not self.decoder or min(*self.encoder, *self.decoder, self.middle) < 0:
            raise ValueError(
                "the fidelity branch needs a width of 1 or more and counts of blocks that are not negative"
            )


@dataclass(frozen=True)
class RestoreVARConfig:
    """Everything needed to build the model. `fidelity=None` is the published architecture.

    `rollout` "argmax" is published. "expected" (ours) adds the mean code under the predicted distribution instead of
    the most probable one: while the transformer is unsure, it hedges where argmax jumps to a wrong tone.
    `condition` "discrete" shows the transformer the quantized latent of the degraded image instead of the continuous
    one, for comparison (figure 8).
    """

    scales: ScaleSchedule = field(default_factory=ScaleSchedule)
    vqvae: VQVAEConfig = field(default_factory=VQVAEConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    fidelity: FidelityConfig | None = None
    rollout: Literal["argmax", "expected"] = "argmax"
    condition: Literal["continuous", "discrete"] = "continuous"

    def __post_init__(self) -> None:
        _check_choice("rollout", self.rollout, ("argmax", "expected"))
        _check_choice("condition", self.condition, ("continuous", "discrete"))
        if (
            self.fidelity is not None
            and (self.fidelity.dark_channel or self.fidelity.tone)
            and self.vqvae.downsample % VEIL_CELL
        ):
            raise ValueError(f"the dark channel needs window sides that are multiples of {VEIL_CELL} pixels")

    @property
    def window(self) -> int:
        """Side in pixels of the native square window."""
        return self.scales.sides[-1] * self.vqvae.downsample

    @property
    def any_window(self) -> bool:
        """Whether windows of other shapes than the native square work (no learned position tables)."""
        return self.transformer.positions == "rotary" and self.refiner.any_window

    @property
    def has_tone(self) -> bool:
        """Whether light and veil are set by maps, which `RestoreVAR.look` finds (tone.py)."""
        return self.fidelity is not None and self.fidelity.tone

    @property
    def downsample(self) -> int:
        """Window sides are multiples of this many pixels."""
        return self.vqvae.downsample

    @property
    def features_per_pixel(self) -> float:
        """Numbers per pixel in one feature map of the finest level: what memory is estimated from."""
        return self.vqvae.widths[0] / self.vqvae.patch**2

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RestoreVARConfig:
        """Raises ValueError with a sentence for unknown fields and impossible values."""
        values = dict(values)
        fidelity = values.pop("fidelity", None)
        parts: dict[str, Any] = {
            "scales": _part(ScaleSchedule, values.pop("scales", {})),
            "vqvae": _part(VQVAEConfig, values.pop("vqvae", {})),
            "transformer": _part(TransformerConfig, values.pop("transformer", {})),
            "refiner": _part(RefinerConfig, values.pop("refiner", {})),
            "fidelity": None if fidelity is None else _part(FidelityConfig, fidelity),
            "rollout": values.pop("rollout", "argmax"),
            "condition": values.pop("condition", "continuous"),
        }
        if values:
            raise ValueError(f"unknown model config fields: {', '.join(sorted(values))}")
        return cls(**parts)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: one of {', '.join(choices)}, not {value!r}")


def _part(kind: type, values: Mapping[str, Any]) -> Any:
    """Build one nested config; JSON lists become tuples again."""
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def paper() -> RestoreVARConfig:
    """The published 512 px model: 108.95 M + 273.98 M + 22.97 M parameters."""
    return RestoreVARConfig()


def paper_256() -> RestoreVARConfig:
    """The same on VAR's ten scales at 256 px."""
    return RestoreVARConfig(scales=ScaleSchedule(VAR_256_SIDES))


def compact() -> RestoreVARConfig:
    """The shipped default: the same method, sized for two CPU cores, any window."""
    return RestoreVARConfig(
        vqvae=VQVAEConfig(
            widths=(48, 96, 192, 256), blocks=1, patch=2, codebook_size=1024, attention=False, norm="channel"
        ),
        transformer=TransformerConfig(depth=6, width=256, heads=4, classes=0, aligned_condition=True, drop_path=0.0),
        refiner=RefinerConfig(depth=3, width=192, heads=6, mlp_width=384, positions="rotary"),
        # More blocks where the resolution is fine: streaks and flakes are local, and a block costs little there.
        fidelity=FidelityConfig(
            encoder=(2, 4, 6), decoder=(3, 4, 6), latent=True, fuse=False, dark_channel=True, tone=True, focus=True
        ),
        rollout="expected",
    )


def debug() -> RestoreVARConfig:
    """Tiny, for tests: 32 px windows, every option of `compact` on."""
    return RestoreVARConfig(
        scales=ScaleSchedule((1, 2, 3, 4)),
        vqvae=VQVAEConfig(
            widths=(8, 8, 16), blocks=1, patch=2, latent_channels=8, codebook_size=32, attention=False, norm="channel"
        ),
        transformer=TransformerConfig(depth=2, width=32, heads=2, classes=0, aligned_condition=True, drop_path=0.0),
        refiner=RefinerConfig(depth=1, width=24, heads=2, mlp_width=32, positions="rotary"),
        fidelity=FidelityConfig(width=8, encoder=(1,), middle=1, latent=True, dark_channel=True, tone=True, focus=True),
    )


PRESETS = {"paper": paper, "paper_256": paper_256, "compact": compact, "debug": debug}
