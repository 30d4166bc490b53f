"""What many machines need beyond the core is an extra: asked for where it is used, missed in one line."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import UserError

_INSTALL = "pip install 'restorevar[scale]'"


def check_ray() -> None:
    """Raises UserError where Ray is missing."""
    if find_spec("ray") is None:
        raise UserError(f"--ray needs Ray: {_INSTALL}; without --ray, processes of this machine do the work")


def check_fsspec(url: str) -> None:
    """Raises UserError where fsspec is missing."""
    if find_spec("fsspec") is None:
        raise UserError(f"{url}: URLs need fsspec: {_INSTALL}")


def check_parquet(path: str) -> None:
    """Raises UserError where pyarrow is missing."""
    if find_spec("pyarrow") is None:
        raise UserError(f"{path}: Parquet needs pyarrow: {_INSTALL}")
