"""The Hugging Face Hub: model folders fetched, found in its cache, sent. No torch here.

huggingface_hub does the work: its cache, its offline mode (HF_HUB_OFFLINE=1), its tokens (`hf auth login`, HF_TOKEN),
its mirrors (HF_ENDPOINT) are the user's, and are taken as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, first_line
from .folders import CARD, CONFIG, INDEX, read_config, weight_files

_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(
    repository: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The folder in the cache, with config and weights of one commit; downloaded where they are not there.

    Raises UserError, one line, with the cause and what helps.
    """
    from huggingface_hub import hf_hub_download, logging

    logging.set_verbosity_error()  # it tells of every retry; one line at the end is enough
    options: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}

    def get(file: str, at: str | None) -> Path:
        try:
            return Path(hf_hub_download(repository, file, revision=at, **options))
        except Exception as error:  # the hub raises many kinds: missing, private, offline
            cause = _cause(error, repository, file, revision)
            raise UserError(f"model {repository!r} could not be fetched from the Hugging Face Hub: {cause}") from None

    folder = get(CONFIG, revision).parent
    # The commit that the config was of, lest a push between two files mixes two models.
    commit = folder.name if _COMMIT.fullmatch(folder.name) else revision
    for file in weight_files(read_config(folder), f"{repository}: {CONFIG}"):
        get(file, commit)
    with suppress(UserError):  # models without one restore as well
        get(CARD, commit)
    return folder


def _cause(error: Exception, repository: str, file: str, revision: str | None) -> str:
    from huggingface_hub import errors

    # The kinds derive from each other: the narrower ones come first.
    causes: list[tuple[type[Exception] | tuple[type[Exception], ...], str]] = [
        (
            errors.GatedRepoError,
            f"it is gated; ask for access on https://huggingface.co/{repository}, then log in with `hf auth login`",
        ),
        (
            errors.RepositoryNotFoundError,
            "no such repository, or a private one; check the name, or log in with `hf auth login`",
        ),
        (errors.RevisionNotFoundError, f"it has no revision {revision!r}"),
        (
            (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled),
            f"{file} is not in the cache, and the Hub is switched off (HF_HUB_OFFLINE, local_files_only) or out of "
            "reach; fetch it once with a connection",
        ),
        (errors.EntryNotFoundError, f"it has no {file}; it is not a model of restorevar, or not all of one"),
    ]
    for kinds, cause in causes:
        if isinstance(error, kinds):
            return cause
    return first_line(error)


# ----------------------------------------------------------------------------------------------------- the cache


@dataclass(frozen=True)
class Cached:
    """A model of ours in the Hub's cache."""

    repository: str
    revision: str  #: the commit
    folder: Path


def cached_models(cache_dir: str | Path | None = None) -> list[Cached]:
    """Models of ours in the Hub's cache, by name. Nothing is asked of the Hub; other models are passed over."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        cache = scan_cache_dir(cache_dir)
    except (CacheNotFound, OSError, ValueError):
        return []
    found = []
    for repository in cache.repos:
        for revision in repository.revisions:
            if repository.repo_type == "model" and _is_ours(revision.snapshot_path):
                found.append(Cached(repository.repo_id, revision.commit_hash, revision.snapshot_path))
    return sorted(found, key=lambda model: (model.repository, model.revision))


def _is_ours(folder: Path) -> bool:
    try:
        description = read_config(folder)
    except UserError:
        return False
    return "format" in description and isinstance(description.get("model"), dict)


# ------------------------------------------------------------------------------------------------------- sending


def push(
    repository: str,
    write: Callable[[Path], Any],
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    message: str = "Upload of a restorevar model",
) -> str:
    """Make the repository where there is none, and send a folder that `write` fills; returns the commit's address.

    Weights of an earlier upload that the new one does not have are removed. Raises UserError, one line.
    """
    from tempfile import TemporaryDirectory

    from huggingface_hub import HfApi

    with TemporaryDirectory(prefix="restorevar-") as name:
        folder = Path(name)
        write(folder)
        try:
            api = HfApi(token=token)
            address = api.create_repo(repository, private=private, repo_type="model", exist_ok=True)
            if revision is not None:
                api.create_branch(address.repo_id, branch=revision, repo_type="model", exist_ok=True)
            commit = api.upload_folder(
                repo_id=address.repo_id,
                folder_path=folder,
                repo_type="model",
                revision=revision,
                commit_message=message,
                delete_patterns=["*.safetensors", INDEX],
            )
        except Exception as error:  # no token, no right to write, no connection
            cause = first_line(error)
            raise UserError(f"the model could not be sent to {repository!r} on the Hugging Face Hub: {cause}") from None
    return str(commit.commit_url)
