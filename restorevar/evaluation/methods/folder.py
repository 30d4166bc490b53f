"""FolderMethod: what some program has restored already, found in a folder of its outputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...checkpoints import file_sha256
from ...errors import UserError
from ...images import read_photo
from ..pairs import Pair, by_stem


class FolderMethod:
    """Outputs below `folder`, in DIR/<dataset>/, DIR/<task>/ or DIR itself, under the names of the inputs.

    Suffixes may differ. Raises UserError if there are no images.

    name     default: that of the folder
    sha256   of what made the outputs; default: of the outputs themselves
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str | None = None,
        sha256: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.name = name or Path(os.path.abspath(folder)).name
        self.settings: Mapping[str, Any] = dict(settings or {})
        self._sha256 = sha256
        self._files = by_stem(self.folder)
        if not self._files:
            raise UserError(f"{self.folder}: no images")
        self._owners: dict[Path, Path] = {}

    @cached_property
    def sha256(self) -> str:
        if self._sha256 is not None:
            return self._sha256
        digest = hashlib.sha256()
        for path in (path for paths in self._files.values() for path in paths):
            digest.update(f"{path.relative_to(self.folder).as_posix()}\0{file_sha256(path)}\n".encode())
        return digest.hexdigest()

    def output_of(self, pair: Pair) -> Path:
        """The output's file. Raises UserError if there is none, or several, or it is another image's too."""
        stem = PurePosixPath(pair.image).with_suffix("").as_posix()
        names = [
            f"{folder}{name}" for folder in (f"{pair.dataset}/", f"{pair.task}/", "") for name in (stem, pair.image)
        ]
        found = next((self._files[name] for name in names if name in self._files), [])
        if len(found) > 1:  # the same stem twice: the suffix may tell
            found = [path for path in found if path.suffix == PurePosixPath(pair.image).suffix] or found
        if len(found) != 1:
            number = f"{len(found)} outputs" if found else "no output"
            raise UserError(f"{self.folder}: {number} for {pair.image} of {pair.dataset}")
        owner = self._owners.setdefault(found[0], pair.input)
        if owner != pair.input:
            raise UserError(f"{found[0]}: would be the output of {owner} as well; use a folder for each data set")
        return found[0]

    def restore(self, pair: Pair, image: np.ndarray) -> np.ndarray:
        """The output; uint8, or float32 of one of 16 bits."""
        path = self.output_of(pair)
        output = read_photo(path).rgb
        if output.shape != image.shape:
            sizes = " x ".join(map(str, output.shape[1::-1])), " x ".join(map(str, image.shape[1::-1]))
            raise UserError(f"{path}: is {sizes[0]} pixels, but {sizes[1]} are to be restored under this protocol")
        return output if output.dtype == np.uint8 else (output / np.float32(65535)).astype(np.float32)
