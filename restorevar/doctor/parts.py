"""The optional parts: what each extra of the package needs, and what of it is missing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from .finding import Finding, Grade

#: What the extras are for. Those not named are for the developers.
PURPOSES = {
    "serve": "the web page and the HTTP service",
    "video": "videos",
    "scale": "many machines (Ray)",
    "onnx": "export to ONNX",
    "eval": "scores and analyses",
    "train": "training",
    "iqa": "LPIPS, MUSIQ and others, non-commercial",
    "perceptual": "perceptual losses by download",
    "ldm": "networks of compared methods",
}
#: Encoders that videos are written with, of which one at least is wanted.
ENCODERS = ("libx264", "libx265", "libsvtav1", "libaom-av1", "libvpx-vp9")

_REQUIREMENT = re.compile(r"""\s*([A-Za-z0-9._-]+).*;.*\bextra\s*==\s*['"]([^'"]+)['"]""")


def look_at_extras() -> Iterator[Finding]:
    """Read from the installed package itself, so that nothing here has to be kept in step with it."""
    wanted = packages_by_extra()
    if not wanted:
        yield Finding("extras", "note", "restorevar is not installed as a package; its extras are not known")
        return
    for extra, purpose in PURPOSES.items():
        packages = wanted.get(extra, [])
        missing = [package for package in packages if not _is_installed(package)]
        if packages and not missing:
            yield Finding(f"[{extra}]", "good", purpose, values={"missing": []})
        elif packages:
            yield Finding(
                f"[{extra}]",
                "note",
                f"{purpose}: missing {', '.join(missing)}",
                f'pip install "restorevar[{extra}]"',
                {"missing": missing},
            )


def packages_by_extra() -> dict[str, list[str]]:
    """Extra -> names of the packages that it brings; references from one extra to another left out."""
    try:
        lines = requires("restorevar") or []
    except PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match and match[1].lower() != "restorevar":
            found.setdefault(match[2], []).append(match[1])
    return found


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def look_at_codecs() -> Iterator[Finding]:
    """Encoders in PyAV's FFmpeg. Nothing is said where PyAV is missing: the extra's line says it."""
    if find_spec("av") is None:
        return
    try:
        from av.codec import codecs_available
    except Exception as error:  # a shared library that is not there
        yield Finding("codecs", "note", f"PyAV does not work ({error})", "pip install --force-reinstall av")
        return
    found = [name for name in ENCODERS if name in codecs_available]
    grade: Grade = "good" if found else "note"
    yield Finding("codecs", grade, f"encoders: {', '.join(found) or 'none of ' + ', '.join(ENCODERS)}")


def look_at_browser() -> Iterator[Finding]:
    """Only the tests of the pages drive one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    text = "chromium and chromedriver are here" if browser and driver else "no chromium with chromedriver"
    yield Finding("browser", "good", f"{text} (for the tests of the web pages only)")
