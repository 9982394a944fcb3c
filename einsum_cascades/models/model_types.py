"""What there is to know of each `model_type` of transformers, as `model_types.yaml` says it.

Knows which fields a type has and what they mean for a workload; reads no configuration (`configurations`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from cascadesim.einsum_cascades.notation.schema import Spec, validate

_TABLE = resources.files("cascadesim.einsum_cascades.models") / "model_types.yaml"


class ExpertFields(Spec):
    """Fields of the number and the width of experts; `beside`: of a dense part that every token goes through, too.

    `when`: only where this field is on. `always`: fields of the workload that no file states.
    """

    number: str
    width: str = "moe_intermediate_size"
    when: str | None = None
    beside: str | None = None
    always: Mapping[str, Any] = {}


class LayerPattern(Spec):
    """A field with a letter, or a number, for each layer: what it mixes tokens with, and its feed-forward part."""

    field: str
    kinds: Mapping[str, Sequence[str]]


class ModelType(Spec):
    """How one `model_type` is read.

    names: other names of fields. absent: values of fields that a file may leave out; `times`: as (factor, field).
    only: what alone is understood of a field. slides: which layers see a window or chunk: all, every one but each n-th
    (n, or the field that has it), those from `max_window_layers` on (late), or none. linear: the field with the number
    of layers of which the last has attention and the others a recurrence. attention, ffn, recurrence: fields of these
    sections, a text being the file's field. kinds: kind of layer -> fields in the place of others. other_parameters:
    sums of products of fields. sinks: kind of layer -> the flag that it has attention sinks. when: field -> the
    entry that holds where it is on.
    """

    text: str | None = None
    missing: str | None = None
    when: Mapping[str, str] = {}
    names: Mapping[str, str] = {}
    absent: Mapping[str, Any] = {}
    times: Mapping[str, tuple[int, str]] = {}
    fields: tuple[str, ...] = ()
    only: Mapping[str, tuple[Any, ...]] = {}
    slides: int | str | None = None
    linear: str | None = None
    pattern: LayerPattern | None = None
    layers: Mapping[str, Mapping[str, Any]] = {}
    experts: ExpertFields | None = None
    latent: bool = False
    parallel: bool = False
    patches: bool = False
    unused_positions: int = 0
    attention: Mapping[str, Any] = {}
    ffn: Mapping[str, bool] = {}
    recurrence: Mapping[str, str] = {}
    kinds: Mapping[str, Mapping[str, Any]] = {}
    workload: Mapping[str, Any] = {}
    other_parameters: Mapping[str, tuple[tuple[str | int, ...], ...]] = {}
    sinks: Mapping[str, str] = {}
    not_modelled: tuple[str, ...] = ()


@cache
def model_types() -> Mapping[str, ModelType]:
    """The table: each entry with what it is like, lists added up and fields of groups replaced."""
    content = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))

    def whole(name: str) -> dict[str, Any]:
        own = dict(content[name])
        base = whole(own.pop("like")) if "like" in own else {}
        merged = {key: {**base[key], **value} if isinstance(value, dict) else
                  [*base[key], *value] if isinstance(value, list) else value
                  for key, value in own.items() if key in base}  # fmt: skip
        return {**base, **own, **merged}

    return {name: validate(ModelType, whole(name), f"model_types.yaml: {name}") for name in content}


def readable_types() -> tuple[str, ...]:
    """Every `model_type` that is understood."""
    return tuple(name for name, found in model_types().items() if found.missing is None and not name.startswith("_"))
