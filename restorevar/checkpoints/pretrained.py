"""The networks as the outside knows them: the same, with the ways in from a model folder or the Hub, and out again.

`models/` knows no files. These classes add to its networks where they are kept; whatever is loaded is one of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .. import models
from ..errors import UserError
from .card import Card

#: Weights above this are split: the Hub's own default, and what its tools load without trouble.
MAX_SHARD_SIZE = "5GB"

Network = TypeVar("Network", bound="Pretrained")


class Pretrained(nn.Module):
    """What both kinds of networks can do with the Hub and with model folders."""

    #: Where the weights come from and what they were measured to do.
    card: Card = Card()

    @classmethod
    def from_pretrained(
        cls: type[Network],
        name: str | os.PathLike[str] = "compact",
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> Network:
        """By shipped name, model folder, or Hugging Face Hub id ("owner/name"); in float32, in eval mode.

        `revision`   a branch, tag or commit of the Hub; "owner/name@revision" says the same
        `cache_dir`  in place of the Hub's own cache
        `local_files_only`  ask nothing of the Hub, as HF_HUB_OFFLINE=1 does for all programs
        `token`      of the Hub, in place of the one that `hf auth login` keeps

        Raises UserError, one line, for what cannot be found, fetched or read, and for the other kind of network.
        """
        from .loading import load_model

        loaded = load_model(
            name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token
        )
        if not isinstance(loaded.model, cls):
            raise UserError(f"{os.fspath(name)}: holds a {type(loaded.model).__name__}, not a {cls.__name__}")
        return loaded.model

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        max_shard_size: int | str = MAX_SHARD_SIZE,
        dtype: torch.dtype | None = None,
        card: Card | None = None,
    ) -> str:
        """Write a model folder with weights, config, card and README; returns the sha256 of the weights.

        `max_shard_size` in bytes, or text as "500MB": larger weights come in parts, with an index.
        `dtype` (torch.bfloat16) halves the file. `card` in place of the model's own; figures are kept only if the
        weights are those that were measured. Raises UserError for a folder that cannot be written.
        """
        from .saving import save_model

        assert isinstance(self, models.RestoreVAR | models.RegressionNet)
        try:
            return save_model(self, Path(folder), dtype, max_shard_size=max_shard_size, card=card or self.card)
        except OSError as error:
            raise UserError(f"{os.fspath(folder)}: cannot be written ({error.strerror or error})") from None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload of a restorevar model",
        max_shard_size: int | str = MAX_SHARD_SIZE,
        dtype: torch.dtype | None = None,
        card: Card | None = None,
    ) -> str:
        """What `save_pretrained` writes, sent to "owner/name" on the Hub; returns the address of the commit.

        The repository is made where there is none, `private` if asked for. Raises UserError, one line.
        """
        from .hub import push

        def write(folder: Path) -> None:
            self.save_pretrained(folder, max_shard_size=max_shard_size, dtype=dtype, card=card)

        return push(repo_id, write, private=private, token=token, revision=revision, message=commit_message)


class RestoreVAR(Pretrained, models.RestoreVAR):
    __doc__ = models.RestoreVAR.__doc__


class RegressionNet(Pretrained, models.RegressionNet):
    __doc__ = models.RegressionNet.__doc__
