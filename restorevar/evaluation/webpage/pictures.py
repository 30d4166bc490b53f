"""Photos as text: shrunken, without their metadata, inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageCms

from ...images import Photo, photo_to_pil, read_photo

#: WebP: about a third of the bytes of a JPEG that looks the same.
QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """A data URI and the size of what is in it."""

    uri: str
    width: int
    height: int


def open_picture(path: Path) -> Image.Image:
    """As `picture_of`, from a file. Raises UserError for what cannot be read."""
    return picture_of(read_photo(path))


def picture_of(photo: Photo) -> Image.Image:
    """Upright, 8-bit RGB in sRGB, transparency over white."""
    image = photo_to_pil(photo)
    profile = image.info.get("icc_profile")
    if image.mode in ("LA", "RGBA"):
        solid = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid)
    if profile and image.mode != "L":
        image = _in_srgb(image.convert("RGB"), profile)
    return image.convert("RGB")


def embed(image: Image.Image, side: int, size: tuple[int, int] | None = None) -> Picture:
    """`image`, first brought to `size` (width, height) if that is given, no longer side than `side`."""
    width, height = size or image.size
    scale = min(1.0, side / max(width, height))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if target != image.size:
        image = image.resize(target, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return Picture("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), *target)


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A profile that cannot be used is as good as none."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted
