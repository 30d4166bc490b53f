"""Protocols: what exactly a score was computed on. A score without its protocol is noise."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError


@dataclass(frozen=True)
class Protocol:
    """A named way from a degraded image and a method to the two arrays that metrics compare.

    geometry         sizes and crops
    colour           channels and colour space
    range            of the values
    rounding         what happens to them between the method and the metrics
    implementation   of the metrics
    """

    name: str
    geometry: str
    colour: str
    range: str
    rounding: str
    implementation: str

    @property
    def text(self) -> str:
        """All of it in one line, for captions."""
        parts = (self.geometry, self.colour, self.range, self.rounding, self.implementation)
        return f"{self.name}: {'; '.join(parts)}"


_SCIKIT = "PSNR and SSIM (7x7 uniform window) by scikit-image, mean over images"

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "restorevar-512",
            "both images resized to 512x512 (Lanczos) before restoring",
            "RGB",
            "[0, 1]",
            "none: float32 before 8 bits",
            _SCIKIT,
        ),
        Protocol(
            "restorevar-512-noref",
            "input resized to 512x512 (Lanczos) before restoring",
            "RGB",
            "[0, 1]",
            "truncated to 8 bits; CDD and LOLBlur twice through JPEG of quality 95, others through PNG",
            "no-reference metrics, mean over images",
        ),
        Protocol("native-rgb", "native size", "RGB", "[0, 1]", "none: float before 8 bits", _SCIKIT),
        Protocol(
            "native-y",
            "native size",
            "Y of YCbCr (BT.601, studio swing: 16 to 235 of 255)",
            "[0, 1]",
            "to 8 bits before the conversion; Y is not rounded",
            _SCIKIT,
        ),
        Protocol("saved-8bit", "native size", "RGB", "[0, 1]", "to 8 bits", _SCIKIT),
    )
}


def find_protocol(name: str) -> Protocol:
    """By name; raises UserError with the known ones."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UserError(f"no protocol {name}; there are {', '.join(PROTOCOLS)}") from None
