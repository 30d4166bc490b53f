"""Restorer: a photo in, the same photo restored out. Of any size, and of the same size.

A photo no larger than the tile runs whole. A larger one stays in memory as integers and streams through the
model in overlapping windows (tiling.py), after a pass over the whole photo, shrunken, that sets their tone; what
each of them makes of tone itself, it is told by a mosaic of more windows (mosaic.py).
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import halving, tiling
from .acceleration import DTYPES, pick_device, pick_dtype, prepare, release
from .checkpoints import load_model
from .errors import UserError
from .glimpse import Watch, watching
from .images import Photo, from_tensor, luma, photo_from_pil, photo_to_pil, read_photo, to_tensor
from .models import Model, RestoreVAR, RestoreVARConfig
from .mosaic import Mosaic


@dataclass(frozen=True)
class Speed:
    """`scales`: part of the scales that are generated, coarsest first. `half`: the change is found at half the size."""

    scales: float = 1.0
    half: bool = False


#: Side in pixels of the windows of a large photo: what the shipped model was made for. Larger ones would show
#: it longer sequences than it knows, and gain little.
TILE = 512
#: Photos up to this area run whole although larger than a tile: faster than four windows and an anchor.
WHOLE_AREA = 768 * 768
#: The same where a GPU has the memory for it.
WHOLE_AREA_CUDA = 1024 * 1024
#: No window is smaller, photos are padded to it: with less the coarse scales would see nothing but padding.
MIN_SIDE = 64
#: The rungs of the ladder in docs/benchmarks.md that are worth having.
SPEEDS = {"best": Speed(), "balanced": Speed(scales=0.7), "fast": Speed(half=True)}
#: Pixels that a window is enlarged by on each side, reflected where the photo ends: what lies beside the zeros that the
#: networks pad with comes out darker, and clean photos and those in thick haze lose most by it (docs/log.md).
MARGIN = 16
#: Windows share this part of their side with each neighbour.
OVERLAP = 1 / 8
#: Tone is what is larger than this part of a window: well below the window, well above the detail.
TONE_REACH = 1 / 8
#: Side in pixels of the cells in which a window is told its tone: below those of the maps that a network makes of it.
TONE_CELL = 8
#: Float32 feature maps alive at once in the finest level of the decoder; an estimate on the safe side.
LIVE_MAPS = 12
#: More windows at once than this make a GPU no faster.
MAX_BATCH = 32

Progress = Callable[[float], None]


class Restorer:
    """Restores photos with one model. Read `name`, `sha256` and `settings` to log what was done.

    The model is moved to the device and cast in place. Raises UserError for settings that cannot be.

    `tile`: side of the windows in pixels, rounded up to what the model takes; "auto": by photo and device.
    `batch`: windows per pass of the model. Both are halved for good when memory runs out; `log` is told.
    `fidelity` in [0, 1]: how much detail is taken from the input; None is the model's own default.
    `strength` in [0, 1]: how much of the change is made; 0 gives the input back.
    `speed`: "best" is the whole model; "balanced" leaves the finest scales to the refiner, "fast" restores
    at half the size and adds the change to the photo. "auto" is balanced where the fidelity branch makes the picture
    by itself, which sees in the photo what those scales would tell (docs/benchmarks.md), and best elsewhere.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str = "custom",
        sha256: str = "",
        device: str = "auto",
        dtype: str = "auto",
        tile: int | Literal["auto"] = "auto",
        batch: int | Literal["auto"] = "auto",
        fidelity: float | None = None,
        strength: float = 1.0,
        speed: str = "auto",
        log: Callable[[str], None] = logging.getLogger(__name__).warning,
    ):
        self.device = pick_device(device)
        self.dtype = pick_dtype(self.device, dtype)
        self.name, self.sha256, self.log = name, sha256, log
        self.unit = model.config.downsample
        self.margin = _round_up(MARGIN, self.unit) if model.config.any_window else 0
        self.tile = _check_tile(model, tile)
        self.fidelity = _check_fidelity(model, fidelity)
        self.strength = _check_strength(strength)
        self._set_speed(model, speed)
        self.model = prepare(model, self.device, self.dtype)
        self.batch = self._check_batch(batch)

    @classmethod
    def from_pretrained(
        cls,
        name: str = "compact",
        device: str = "auto",
        dtype: str = "auto",
        tile: int | Literal["auto"] = "auto",
        batch: int | Literal["auto"] = "auto",
        fidelity: float | None = None,
        strength: float = 1.0,
        speed: str = "auto",
    ) -> Restorer:
        """By shipped name, model folder or Hugging Face Hub id. Raises UserError if there is none such."""
        loaded = load_model(name)
        return cls(
            loaded.model,
            name=loaded.name,
            sha256=loaded.sha256,
            device=device,
            dtype=dtype,
            tile=tile,
            batch=batch,
            fidelity=fidelity,
            strength=strength,
            speed=speed,
        )

    def at(self, *, fidelity: float | None = None, strength: float | None = None, speed: str | None = None) -> Restorer:
        """The same model with other settings, without loading it anew; None keeps what is.

        Raises UserError as the constructor.
        """
        other = copy.copy(self)
        if fidelity is not None:
            other.fidelity = _check_fidelity(self.model, fidelity)
        if strength is not None:
            other.strength = _check_strength(strength)
        other._set_speed(self.model, self._asked_speed if speed is None else speed)
        return other

    def _set_speed(self, model: Model, asked: str) -> None:
        """What "auto" picks depends on the fidelity, so what was asked for is kept."""
        self._asked_speed = asked
        self.speed = pick_speed(model, self.fidelity) if asked == "auto" else asked
        self.scales = scales_of(model, self.speed)

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on, beside model and photo; plain JSON types."""
        dtype = next(name for name, kind in DTYPES.items() if kind == self.dtype)
        return {
            "device": str(self.device),
            "dtype": dtype,
            "tile": self.tile or "auto",
            "batch": self.batch,
            "fidelity": self.fidelity,
            "strength": self.strength,
            "speed": self.speed,
        }

    @property
    def summary(self) -> str:
        """The settings in a line, with what "auto" has picked."""
        tile = f"windows of {self.tile or TILE} pixels" + ("" if self.tile else ", small photos whole")
        batch = f"{self.batch} at once" if self.batch > 1 else "one at a time"
        return f"{self.settings['dtype']} on {self.device}, {tile}, {batch}, speed {self.speed}"

    # --------------------------------------------------------------------------------------- pictures in, out

    def __call__(self, image: Any) -> Any:
        """The same picture, restored; the kind of the result follows the kind of `image`.

        path or PIL image: a PIL image, upright, of 8 bits (`restore_photo` keeps 16)
        numpy array [H, W] or [H, W, 1 to 4], uint8, uint16 or float in [0, 1]: the same shape and dtype
        torch tensor (C, H, W) or (B, C, H, W), C 1 to 4, float in [0, 1] or uint8: the same in all this

        One channel is gray, two are gray and alpha, four are RGB and alpha; alpha is carried through. Floats
        are worked on in 16 bits. Raises UserError for anything else, and for files that cannot be read.
        """
        if isinstance(image, np.ndarray):
            return self._restore_array(image)
        if isinstance(image, Tensor):
            return self._restore_tensor(image)
        if isinstance(image, Image.Image):
            return photo_to_pil(self.restore_photo(photo_from_pil(image)))
        if isinstance(image, str | os.PathLike):
            return photo_to_pil(self.restore_photo(read_photo(Path(image))))
        raise UserError(f"cannot restore a {type(image).__name__}: give a path, PIL image, numpy array or tensor")

    def restore_photo(self, photo: Photo, progress: Progress | None = None, watch: Watch | None = None) -> Photo:
        """The photo with restored pixels, all else as it was. See `restore_pixels`."""
        return photo.replaced(self.restore_pixels(photo.rgb, progress, watch))

    def restore_photos(self, photos: Sequence[Photo]) -> list[Photo]:
        """Photos of one size, for which `share_a_pass` holds, `batch` of them in a pass of the model."""
        sizes = {photo.rgb.shape for photo in photos}
        if len(sizes) != 1 or not self.share_a_pass(*photos[0].rgb.shape[:2]):
            raise ValueError(f"only photos of one size that run whole can share a pass, not {sorted(sizes)}")
        restored: list[Photo] = []
        while waiting := photos[len(restored) :]:
            window = self._window(*photos[0].rgb.shape[:2])
            together = waiting[: self.batch]
            try:
                results = self._run_model(
                    torch.stack([self._whole(to_tensor(photo.rgb)) for photo in together]), window
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                for photo, result in zip(together, results, strict=True):
                    restored.append(photo.replaced(from_tensor(result, photo.rgb.dtype)))
                continue
            self._make_room(window)
            if not self.share_a_pass(*photos[0].rgb.shape[:2]):
                return restored + [self.restore_photo(photo) for photo in photos[len(restored) :]]
        return restored

    def share_a_pass(self, height: int, width: int) -> bool:
        """Whether photos of this size can be restored together: each of them is one window."""
        high, wide = self._window(height, width)
        return height <= high and width <= wide and not SPEEDS[self.speed].half

    def _restore_array(self, array: np.ndarray) -> np.ndarray:
        samples = array[..., None] if array.ndim == 2 else array
        if samples.ndim != 3 or not 1 <= samples.shape[2] <= 4 or not samples.size:
            raise UserError(f"cannot restore an array of shape {array.shape}: give [H, W] or [H, W, 1 to 4]")
        colors = 1 if samples.shape[2] < 3 else 3
        color, alpha = samples[..., :colors], samples[..., colors:]
        restored = self.restore_pixels(np.repeat(_to_integers(color), 3 // colors, axis=2))
        if colors == 1:
            restored = luma(restored)[..., None]
        if array.dtype.kind == "f":
            restored = restored / 65535.0
        return np.concatenate([restored.astype(array.dtype), alpha], axis=2).reshape(array.shape)

    def _restore_tensor(self, tensor: Tensor) -> Tensor:
        if tensor.ndim not in (3, 4):
            raise UserError(f"cannot restore a tensor of shape {tuple(tensor.shape)}: give (C, H, W) or (B, C, H, W)")
        plain = tensor.detach().cpu()
        plain = plain.float() if plain.is_floating_point() else plain
        images = [
            torch.from_numpy(self._restore_array(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)
            for image in (plain if tensor.ndim == 4 else plain[None])
        ]
        return torch.stack(images).reshape(tensor.shape).to(tensor)

    # ------------------------------------------------------------------------------------ the path of a photo

    def restore_pixels(
        self, rgb: np.ndarray, progress: Progress | None = None, watch: Watch | None = None
    ) -> np.ndarray:
        """Pixels [H, W, 3] of uint8 or uint16, restored, as a new array of the same shape and dtype.

        `progress` is told the share done, 0 to 1, after each window; `watch` gets a Glimpse after each scale of the
        pass over the whole photo, which for a large one is the shrunken photo that sets the tone. What either raises
        ends the work and comes out as it is. A model without scales has none to watch.
        """
        return self._restore(rgb, rgb.dtype, progress or _ignore, watch)

    def restore_floats(self, rgb: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """As `restore_pixels`, but float32 in [0, 1]: what the model gives, before rounding. For measurements."""
        return self._restore(rgb, np.dtype(np.float32), progress or _ignore, None)

    def _restore(self, rgb: np.ndarray, dtype: np.dtype[Any], progress: Progress, watch: Watch | None) -> np.ndarray:
        """The result is of `dtype`."""
        if SPEEDS[self.speed].half and min(rgb.shape[:2]) >= 2 * MIN_SIDE:
            return self._restore_at_half_size(rgb, dtype, progress, watch)
        return self._restore_at_size(rgb, dtype, progress, watch)

    def _restore_at_half_size(
        self, rgb: np.ndarray, dtype: np.dtype[Any], progress: Progress, watch: Watch | None
    ) -> np.ndarray:
        small = halving.halve(rgb)
        change = self._restore_at_size(small, np.dtype(np.float32), progress, watch)
        change -= small.astype(np.float32) / 65535
        change *= 2  # pixels range from -1 to 1 below
        restored = np.empty(rgb.shape, dtype)
        for top, rows in halving.enlarged_bands(change, *rgb.shape[:2]):
            place = slice(top, top + rows.shape[1])
            restored[place] = from_tensor(to_tensor(rgb[place]) + rows, dtype)
        return restored

    def _restore_at_size(
        self, rgb: np.ndarray, dtype: np.dtype[Any], progress: Progress, watch: Watch | None
    ) -> np.ndarray:
        """Again with less at once until memory is enough."""
        while True:
            window = self._window(*rgb.shape[:2])
            try:
                return self._restore_windows(rgb, dtype, window, progress, watch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Here, not above: while the exception is handled, it keeps the tensors alive.
            self._make_room(window)

    def _restore_windows(
        self,
        rgb: np.ndarray,
        dtype: np.dtype[Any],
        window: tuple[int, int],
        progress: Progress,
        watch: Watch | None,
    ) -> np.ndarray:
        """Plan, anchor, restore, blend: rows of pixels come out as soon as they are final."""
        height, width, _ = rgb.shape
        side = max(window)
        plan = tiling.plan(height, width, window, overlap=int(side * OVERLAP))
        tone = self._tone(rgb, side, watch) if len(plan) > 1 else None
        restored = np.empty(rgb.shape, dtype)
        mosaic = self._mosaic(rgb, window) if len(plan) > 1 else None
        windows = self._stream(rgb, plan, window, tone, mosaic, progress, watch if tone is None else None)
        for top, rows in tiling.merge_bands(windows, plan):
            restored[top : top + rows.shape[1]] = from_tensor(rows, dtype)
        return restored

    def _stream(
        self,
        rgb: np.ndarray,
        plan: tiling.Plan,
        window: tuple[int, int],
        tone: tiling.Tone | None,
        mosaic: Mosaic | None,
        progress: Progress,
        watch: Watch | None,
    ) -> Iterator[Tensor]:
        """The restored windows (3, h, w) of the plan, in its order, a batch of them in float at a time."""
        places = plan.places()
        done = 0
        while batch := list(islice(places, self.batch)):
            maps = None if mosaic is None else torch.stack([mosaic.at(*place, TONE_CELL) for place in batch])
            restored = self._run_model(self._around(rgb, batch), window, watch, maps)
            done += len(batch)
            progress(done / len(plan))
            for (rows, columns), after in zip(batch, restored, strict=True):
                before = to_tensor(rgb[rows, columns])
                yield after if tone is None else tone.match(before, after, rows.start, columns.start)

    def _tone(self, rgb: np.ndarray, size: int, watch: Watch | None) -> tiling.Tone:
        """The anchor: the whole photo, shrunken to `size` pixels, restored at once."""
        degraded, scale = tiling.shrink(rgb, size)
        restored = self._run_model(self._whole(degraded)[None], self._window(*degraded.shape[1:]), watch)[0]
        # Below one pixel of the anchor it has nothing to say.
        return tiling.Tone(restored - degraded, scale, reach=max(size * TONE_REACH, *scale))

    def _mosaic(self, rgb: np.ndarray, window: tuple[int, int]) -> Mosaic | None:
        """What the model's tone says of each place in the photo; None for a model, or a fidelity, without one."""
        if not self.model.config.has_tone or self.fidelity == 0:
            return None
        padded, model = self._padded(window), cast(RestoreVAR, self.model)

        def look(places: Sequence[tuple[slice, slice]]) -> list[Tensor]:
            found: list[Tensor] = []
            while batch := places[len(found) : len(found) + self.batch]:
                shown = tiling.pad_to(self._around(rgb, batch), *padded)
                found.extend(model.look(shown.to(self.device)).cpu())
            return found

        return Mosaic(rgb.shape[:2], window, self.margin, padded, look)

    def _around(self, rgb: np.ndarray, places: Sequence[tuple[slice, slice]]) -> Tensor:
        """Windows of the photo with their margin, in [-1, 1]."""
        return torch.stack([to_tensor(tiling.surroundings(rgb, *place, self.margin)) for place in places])

    def _padded(self, window: tuple[int, int]) -> tuple[int, int]:
        """A window's sides with its margin: what the model is shown."""
        return window[0] + 2 * self.margin, window[1] + 2 * self.margin

    def _run_model(
        self,
        degraded_B3HW: Tensor,
        window: tuple[int, int],
        watch: Watch | None = None,
        maps_B10hw: Tensor | None = None,
    ) -> Tensor:
        """The model on images in [-1, 1] with their margin; without it, no larger than `window`. Result on the CPU."""
        height, width = (side - 2 * self.margin for side in degraded_B3HW.shape[-2:])
        place = tiling.Place(height, width, self.margin)
        padded = tiling.pad_to(degraded_B3HW, *self._padded(window)).to(self.device)
        options: dict[str, Any] = {} if self.scales is None else {"scales": self.scales}
        if maps_B10hw is not None:
            options["maps_B10hw"] = maps_B10hw.to(self.device)
        if watch is not None and isinstance(self.model.config, RestoreVARConfig):
            options["on_scale"] = watching(self.model, watch, place, self._padded(window))
        restored = place.cut(self.model.restore(padded, fidelity=self.fidelity, **options)).float().cpu()
        if not restored.isfinite().all():
            raise UserError(f"the numbers became too large in {self.settings['dtype']}; try the dtype fp32")
        # The tone of a large photo and the sum of its windows are linear in what comes out here.
        return restored if self.strength == 1 else torch.lerp(place.cut(degraded_B3HW), restored, self.strength)

    def _whole(self, image_3HW: Tensor) -> Tensor:
        """A photo that is one window, with its margin."""
        height, width = (side + 2 * self.margin for side in image_3HW.shape[-2:])
        return tiling.pad_to(image_3HW, height, width, self.margin)

    # --------------------------------------------------------------------------------------- sizes and memory

    def _window(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what the model is shown at once of a photo of this size."""
        if not self.model.config.any_window:
            return self.model.config.window, self.model.config.window
        high, wide = (_round_up(max(side, MIN_SIDE), self.unit) for side in (height, width))
        tile = self.tile or _round_up(TILE, self.unit)
        # Not a long strip, however small: the model knows photos.
        if self.tile is None and high * wide <= self._whole_area() and max(high, wide) <= 2 * tile:
            return high, wide
        return min(high, tile), min(wide, tile)

    def _whole_area(self) -> int:
        roomy = self.device.type == "cuda" and self._windows_that_fit(WHOLE_AREA_CUDA) >= 1
        return WHOLE_AREA_CUDA if roomy else WHOLE_AREA

    def _windows_that_fit(self, area: int) -> int:
        """How many windows of `area` pixels half of the GPU's free memory holds, by estimate."""
        need = area * LIVE_MAPS * 4 * self.model.config.features_per_pixel
        return int(torch.cuda.mem_get_info(self.device)[0] / 2 / need)

    def _check_batch(self, batch: int | str) -> int:
        if isinstance(batch, int) and not isinstance(batch, bool) and batch >= 1:
            return batch
        if batch != "auto":
            raise UserError(f"batch is auto or a number of windows from 1, not {batch!r}")
        if self.device.type != "cuda":
            return 1  # a single window keeps all cores busy
        return max(1, min(MAX_BATCH, self._windows_that_fit((self.tile or TILE) ** 2)))

    def _make_room(self, window: tuple[int, int]) -> None:
        """After memory ran out: halve the batch, or else the tile. UserError if neither can be."""
        release(self.model)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        smaller = _round_up(max(window) // 2, self.unit)
        if self.batch > 1:
            self.batch //= 2
        elif self.model.config.any_window and MIN_SIDE <= smaller < max(window):
            self.tile = smaller
        else:
            raise UserError(f"not enough memory on {self.device} for a window of {window[0]}x{window[1]} pixels")
        self.log(f"out of memory on {self.device}: going on with batch {self.batch}, tile {self.tile or 'auto'}")


def _check_tile(model: Model, tile: int | str) -> int | None:
    """The tile as the model takes it, None for "auto"."""
    unit, native = model.config.downsample, model.config.window
    if tile == "auto":
        return None if model.config.any_window else native
    if not isinstance(tile, int) or tile < MIN_SIDE:
        raise UserError(f"tile is auto or a number of pixels from {MIN_SIDE}, not {tile!r}")
    if not model.config.any_window and tile != native:
        raise UserError(f"this model takes tiles of {native} pixels only, not {tile}")
    return _round_up(tile, unit)


def _check_fidelity(model: Model, weight: float | None) -> float:
    try:
        return model.fidelity_weight(weight)
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_strength(strength: float) -> float:
    if not 0 <= strength <= 1:
        raise UserError(f"strength is between 0 and 1, not {strength}")
    return strength


def pick_speed(model: Model, fidelity: float) -> str:
    """What "auto" stands for."""
    branch = model.fidelity if isinstance(model, RestoreVAR) else None
    return "balanced" if branch is not None and branch.needs_no_decoder(fidelity) else "best"


def scales_of(model: Model, speed: str) -> int | None:
    """How many scales a speed generates; None is all. Raises UserError for an unknown speed, or one it cannot have."""
    if speed not in SPEEDS:
        raise UserError(f"unknown speed {speed!r}: one of auto, {', '.join(SPEEDS)}")
    share = SPEEDS[speed].scales
    if share == 1:
        return None
    try:
        if isinstance(model, RestoreVAR):
            return model.scale_count(max(1, round(share * len(model.config.scales))))
    except ValueError:
        pass
    raise UserError(f"this model has no scales to leave out, as speed {speed!r} would")


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def is_out_of_memory(error: BaseException) -> bool:
    """Only on CUDA has torch an exception of its own for it; on MPS and on the CPU the message tells."""
    signs = ("out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(s in str(error) for s in signs)


def _ignore(share: float) -> None:
    """The progress of those who do not ask."""


def _to_integers(samples: np.ndarray) -> np.ndarray:
    """Samples as uint8 or uint16; floats in [0, 1] become 16 bits."""
    if samples.dtype in (np.uint8, np.uint16):
        return samples
    if samples.dtype.kind != "f":
        raise UserError(f"cannot restore {samples.dtype} samples: give uint8, uint16 or float in [0, 1]")
    if not (samples.min() >= 0 and samples.max() <= 1):  # false for NaN too
        raise UserError("float samples must lie in [0, 1]")
    return np.round(samples * np.float64(65535)).astype(np.uint16)
