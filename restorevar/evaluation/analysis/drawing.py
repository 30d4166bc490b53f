"""Pictures in rows with captions, maps as colours. Drawn with Pillow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...images import photo_from_pil, write_photo

_GAP, _TEXT, _TITLE = 6, 16, 20
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
#: From little to much, growing evenly in lightness, and told apart by the colour-blind.
_RAMP = ((16, 12, 48), (58, 28, 106), (120, 40, 110), (186, 58, 84), (232, 104, 50), (250, 168, 40), (252, 240, 170))


@dataclass(frozen=True)
class Tile:
    """One picture [H, W, 3] uint8 with a line below.

    blocks   a map of few cells that covers a photo: stretched to the photo's shape, edges kept
    """

    pixels: np.ndarray
    caption: str = ""
    blocks: bool = False


@dataclass(frozen=True)
class Strip:
    """Tiles side by side under a title."""

    title: str
    tiles: Sequence[Tile]


def sheet(strips: Sequence[Strip], cell: int = 192) -> Image.Image:
    """Strips below each other; every tile is fitted into a cell `cell` pixels wide, as high as its strip's highest."""
    heights = [_height(strip.tiles, cell) for strip in strips]
    # Cells without a photo have the shape of other strips' photos.
    heights = [height or max(heights) or cell for height in heights]
    columns = max(len(strip.tiles) for strip in strips)
    tall = _GAP + sum(_TITLE + height + _TEXT + _GAP for height in heights)
    picture = Image.new("RGB", (_GAP + columns * (cell + _GAP), tall), _PAPER)
    draw = ImageDraw.Draw(picture)
    top = _GAP
    for strip, height in zip(strips, heights, strict=True):
        draw.text((_GAP, top), strip.title, _INK, _font(13))
        for j, tile in enumerate(strip.tiles):
            left = _GAP + j * (cell + _GAP)
            picture.paste(_fitted(tile, cell, height), (left, top + _TITLE))
            draw.text((left, top + _TITLE + height + 1), _cut(tile.caption, cell), _INK, _font(11))
        top += _TITLE + height + _TEXT + _GAP
    return picture


def save(picture: Image.Image, path: Path) -> None:
    """By the extension, whole or not at all, replacing what was there. Raises UserError."""
    write_photo(path, photo_from_pil(picture), overwrite=True)


def heat(values_hw: Tensor, low: float, high: float) -> np.ndarray:
    """[h, w, 3] uint8: dark at `low`, bright at `high`; beyond them as at them."""
    share = ((values_hw.float().cpu() - low) / max(high - low, 1e-12)).clamp(0, 1).numpy()
    at = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(share, at, [colour[c] for colour in _RAMP]) for c in range(3)]
    return np.round(np.stack(channels, -1)).astype(np.uint8)


def code_colours(codes_VC: Tensor) -> np.ndarray:
    """[V, 3] uint8, a colour for each code: alike codes look alike (three principal components, evenly spread)."""
    codes = codes_VC.detach().double().cpu()
    _, _, axes = torch.linalg.svd(codes - codes.mean(0), full_matrices=False)
    axes = axes[:3] * axes[:3].gather(1, axes[:3].abs().argmax(1, keepdim=True)).sign()  # svd leaves the sign open
    places = (codes @ axes.T).argsort(0).argsort(0)
    return (40 + 200 * places / max(1, len(codes) - 1)).round().to(torch.uint8).numpy()


def _height(tiles: Sequence[Tile], cell: int) -> int:
    """Of the highest photo, fitted into `cell` pixels of width; 0 where there is none."""
    shapes = [tile.pixels.shape for tile in tiles if not tile.blocks]
    return max((max(1, round(cell * height / width)) for height, width, *_ in shapes), default=0)


def _fitted(tile: Tile, width: int, height: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(tile.pixels))
    if tile.blocks:
        return image.resize((width, height), Image.Resampling.NEAREST)
    factor = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _cut(text: str, width: int) -> str:
    """The text, as much of it as is no wider than `width` pixels."""
    while text and _font(11).getlength(text) > width:
        text = text[:-1]
    return text


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
