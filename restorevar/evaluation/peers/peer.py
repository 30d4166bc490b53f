"""Peer: a compared method, told to the rest of this package. One file each beside this one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...errors import UserError
from .command import Command
from .fitting import Fit
from .job import Item, Job

#: The stand-in for a weight file that is the place of the weights itself.
ITSELF = ""


@dataclass(frozen=True)
class Facts:
    """What a user wants to know before the download. docs/peers.md says more.

    title      as in the paper's tables
    source     the repository, at the commit that the adapter was written from
    licence    of code and weights; "none": no licence file, all rights reserved
    weights    where they come from
    needs      the environment, in a line
    notes      what it cannot do, and which of the paper's figures it cannot give
    """

    title: str
    source: str
    commit: str
    licence: str
    weights: str
    needs: str
    notes: tuple[str, ...] = ()


class Peer:
    """One compared method. Instances hold nothing: what is asked for is in the Job.

    name      on the command line
    files     that tell a checkout of it from other folders
    texts     task -> what the peer is told; None: it is told nothing and takes any task
    fit       the sizes that it takes
    options   name -> default, set with --set; a text, a whole number, a number
    weights   where they are below the checkout unless the user says; None: the user has to say
    hints     part of its log -> what to do about it
    resumes   whether a command leaves alone what it made before it was interrupted
    """

    name: ClassVar[str]
    facts: ClassVar[Facts]
    files: ClassVar[tuple[str, ...]] = ()
    texts: ClassVar[Mapping[str, str] | None] = None
    fit: ClassVar[Fit] = Fit()
    options: ClassVar[Mapping[str, Any]] = {}
    weights: ClassVar[str | None] = None
    hints: ClassVar[Mapping[str, str]] = {}
    resumes: ClassVar[bool] = False

    # ------------------------------------------------------------------------------------------ what each one says

    def commands(self, job: Job) -> list[Command]:
        """The programs to run, in this order. Outputs go below {job}/out."""
        raise NotImplementedError

    def write(self, job: Job) -> None:
        """Write what the commands read besides the images. Raises UserError."""

    def weight_files(self, job: Job) -> tuple[str, ...]:
        """Files below the place of the weights that the job needs; ITSELF if that place is a file."""
        return (ITSELF,)

    def check_weights(self, job: Job, weights: Path) -> None:
        """Look into the files, which are there. Raises UserError for others than the peer's."""

    def key_of(self, job: Job, path: str) -> str | None:
        """The key of the image that a file below {job}/out restores; None for files that restore none."""
        match = re.fullmatch(r"(\d{6})\.png", path)
        return match[1] if match else None

    def claim(self, job: Job, paths: Iterable[str]) -> dict[str, list[str]]:
        """Key -> its outputs among the image files below {job}/out; there should be one each."""
        found: dict[str, list[str]] = {}
        for path in paths:
            if (key := self.key_of(job, path)) is not None:
                found.setdefault(key, []).append(path)
        return found

    def is_aside(self, path: str) -> bool:
        """Whether an image below {job}/out is a known by-product: no result, and no sign of a mistake."""
        return False

    def given_size(self, fed: tuple[int, int], size: tuple[int, int]) -> tuple[int, int] | None:
        """The size of the output file for an image fed at `fed`; None if `size` (the file's) cannot be."""
        return fed

    def extract(self, output: np.ndarray, fed: tuple[int, int]) -> np.ndarray:
        """The restored image, of size `fed`, in an output [H, W, 3] of size `given_size`."""
        return output

    def changes(self, job: Job) -> bool:
        """Whether an output that is its input unchanged is a sign that something went wrong."""
        return True

    def settings(self, job: Job) -> dict[str, Any]:
        """What results depend on beside options and weights; plain JSON types."""
        return {}

    # ------------------------------------------------------------------------------------------- what they share

    @property
    def title(self) -> str:
        return self.facts.title

    def text(self, task: str, options: Mapping[str, Any]) -> str | None:
        """What the peer is told for this task; None if it knows no such task. Blind peers are told nothing: ""."""
        if self.texts is None:
            return ""
        return options.get("prompt") or self.texts.get(task)

    def takes(self, task: str, options: Mapping[str, Any]) -> bool:
        return self.text(task, options) is not None

    def parse_options(self, settings: Iterable[str]) -> dict[str, Any]:
        """All options, with those of "NAME=VALUE" set. Raises UserError."""
        options = dict(self.options)
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals or name not in options:
                known = ", ".join(options) or "none"
                raise UserError(f"--set {setting}: options of {self.name} are {known}, given as NAME=VALUE")
            kind = type(self.options[name])
            try:
                options[name] = kind(value)
            except ValueError:
                raise UserError(f"--set {setting}: {name} is a {_KINDS[kind]}") from None
        self.check_options(options)
        return options

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises UserError for values that cannot be."""


_KINDS: dict[type, str] = {int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class Setup:
    """Where the user has a peer.

    checkout   its repository; None for peers that need none
    python     the interpreter of its environment; by default this one
    weights    a file or a folder, whichever the peer has; None: where its repository wants them
    """

    checkout: Path | None = None
    python: str = sys.executable
    weights: Path | None = None

    def weights_of(self, peer: Peer) -> Path | None:
        if self.weights is not None:
            return self.weights
        if peer.weights is None or self.checkout is None:
            return None
        return self.checkout / peer.weights


def keys(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(item.key for item in items)
