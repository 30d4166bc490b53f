"""`--set NAME=VALUE`: any number of a recipe or of its model, from the command line.

model.condition=discrete                  a field of the model's config
model.transformer.positions=absolute
transformer.self_rollout=0                a field of the stage called transformer
decoder.loss.adversarial=0                a field inside it
fidelity.schedule.batch=4
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ..errors import UserError
from ..models import FidelityConfig, ModelConfig
from .trainer import Stage

#: Parts that a model may do without; setting a number of one brings it in.
_OPTIONAL_PARTS = {"fidelity": FidelityConfig}


def apply_overrides(
    config: ModelConfig, stages: Sequence[Stage], settings: Iterable[str]
) -> tuple[ModelConfig, list[Stage]]:
    """The config and the stages with these settings. Raises UserError for names and values that are none."""
    by_name: dict[str, Any] = {"model": config} | {stage.name: stage for stage in stages}
    for setting in settings:
        path, equals, text = setting.partition("=")
        owner, *names = path.strip().split(".")
        if not equals or not names:
            raise UserError(f"--set {setting}: give a name like transformer.self_rollout=0.5")
        if owner not in by_name:
            raise UserError(f"--set {setting}: no part {owner!r}; there are {', '.join(by_name)}")
        try:
            by_name[owner] = _replaced(by_name[owner], names, text, setting)
        except (TypeError, ValueError) as error:
            raise UserError(f"--set {setting}: {error}") from None
    return by_name.pop("model"), list(by_name.values())


def _replaced(value: Any, names: Sequence[str], text: str, setting: str) -> Any:
    """A copy of the dataclass `value` with the field at this path set."""
    name, *rest = names
    known = [field.name for field in fields(value) if field.init] if is_dataclass(value) else []
    if name not in known:
        raise UserError(f"--set {setting}: no {name!r} there; there are {', '.join(known) or 'no fields'}")
    old = getattr(value, name)
    if old is None and rest and name in _OPTIONAL_PARTS:
        old = _OPTIONAL_PARTS[name]()
    if not rest and text == "null" and name in _OPTIONAL_PARTS:
        return replace(value, **{name: None})
    new = _replaced(old, rest, text, setting) if rest else _parse(text, old, setting)
    return replace(value, **{name: new})


def _parse(text: str, old: Any, setting: str) -> Any:
    """JSON where it is JSON, else a word; of the kind that was there before."""
    try:
        new = json.loads(text.replace("True", "true").replace("False", "false"))
    except ValueError:
        new = text
    number = isinstance(new, int | float) and not isinstance(new, bool)
    if isinstance(old, bool):
        wanted, fits = "true or false", isinstance(new, bool)
    elif isinstance(old, int | float):
        wanted, fits = "a number", number
    else:
        wanted, fits = "a word", not isinstance(old, str) or isinstance(new, str)
    if not fits:
        raise UserError(f"--set {setting}: {wanted} is wanted")
    if isinstance(old, tuple) and isinstance(new, list):
        return tuple(new)
    if is_dataclass(old) or isinstance(old, dict):
        raise UserError(f"--set {setting}: set its fields one by one")
    return new
