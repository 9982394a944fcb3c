"""Sparse patterns by name: `sink-window:sinks=64,window=4096`, `moba:kept=2`, `documents:lengths=5+12+7`.

A table of static patterns, one of those that follow the layout or a file, and `SELECTED`: what the data chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import TypeAlias

from cascadesim.einsum_cascades.models.sections import layout_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError, listed, shortened
from cascadesim.einsum_cascades.sparsity import sparse_patterns as patterns
from cascadesim.einsum_cascades.sparsity.block_selection import BlockMask, Selected
from cascadesim.einsum_cascades.sparsity.selection_methods import SELECTED, halo_of_layout, selected, settings_of
from cascadesim.einsum_cascades.sparsity.sparse_patterns import SparsePattern, sliding_tile

# name -> (constructor, fields it takes besides the tokens)
STATIC: Mapping[str, tuple[Callable[..., SparsePattern | BlockMask], tuple[str, ...]]] = {
    "sink-window": (patterns.sink_window, ("sinks", "window")),
    "global-window": (patterns.global_window, ("window", "globals")), "strided": (patterns.strided, ("length",)),
    "fixed": (patterns.fixed, ("length", "columns")), "halo": (patterns.halo, ("block", "halo")),
    "block-causal": (patterns.block_causal, ("block",)), "power": (patterns.power, ("block", "window", "sinks")),
}  # fmt: skip
Layout: TypeAlias = tuple[int, ...]
Named: TypeAlias = SparsePattern | Selected | BlockMask


def pattern_fields() -> Mapping[str, Mapping[str, float | None]]:
    """Each pattern that can be named -> its fields, with the value that one has without being given, or None."""
    static = {name: fields for name, (_, fields) in {**STATIC, **_SHAPED}.items()}
    given: dict[str, Mapping[str, float | None]] = {name: dict.fromkeys(fields) for name, fields in static.items()}
    return given | {name: settings_of(name) for name in SELECTED}


def named(text: str, layout: Layout, causal: bool | None = None) -> Named:
    """The pattern that a text such as `moba:kept=2` or `documents:lengths=5+12+7` names. Raises CascadeSimError.

    `causal`: whether blocks are chosen among earlier ones, where the data chooses; None: as published. Frames of
    `frame-decay` and `repeated-window` are the layout's first dimension; `sliding-tile:tile=6x8x8,window=3x3x3` and
    `halo:block=8x8,halo=2x2` are in the order of their tiles.
    """
    name, _, given = text.partition(":")
    settings, tokens = _settings(name, given), prod(layout)
    if name in SELECTED:
        numbers = {field: _number(name, field, value) for field, value in settings.items()}
        return selected(name, tokens, causal, **numbers)
    if name == "halo" and any("x" in value for value in settings.values()):
        return halo_of_layout(layout, *(_sides(name, settings, field) for field in ("block", "halo")))
    if name in _SHAPED:
        build_shaped, known = _SHAPED[name]
        if not set(settings) <= set(known):
            raise CascadeSimError(f"pattern {name}: knows the fields {listed(known) or '(none)'}; "
                                  f"got {listed(settings)}")
        return build_shaped(settings, layout)
    if name not in STATIC:
        raise UnknownNameError("pattern", name, (*STATIC, *_SHAPED, *SELECTED))
    build, fields = STATIC[name]
    if set(settings) != set(fields):
        raise CascadeSimError(f"pattern {name}: needs the fields {', '.join(fields)}; got "
                              f"{listed(settings) or 'none'}")
    return build(tokens, *(_whole(name, field, settings[field]) for field in fields))


def stamp_of(text: str) -> str:
    """When the file that a text names was written, and its size; nothing of texts without one."""
    name, _, given = text.partition(":")
    path = Path(_settings(name, given).get("file", ""))
    return f"{path.stat().st_mtime_ns} {path.stat().st_size}" if name == "block-mask" and path.is_file() else ""


def _documents(settings: Mapping[str, str], layout: Layout) -> Named:
    lengths = tuple(_whole("documents", "lengths", part) for part in settings.get("lengths", "").split("+"))
    if sum(lengths) != prod(layout):
        raise CascadeSimError(
            f"pattern documents: lengths add up to {sum(lengths)}, the layout has {prod(layout)} tokens"
        )
    return patterns.documents(lengths, _flag("documents", settings, "1"))


def _block_mask(settings: Mapping[str, str], layout: Layout) -> Named:
    if not {"file", "queries", "keys"} <= set(settings):
        raise CascadeSimError(f"pattern block-mask: needs the fields file, queries, keys; got "
                              f"{listed(settings) or 'none'}")
    queries, keys = (_whole("block-mask", field, settings[field]) for field in ("queries", "keys"))
    return patterns.block_mask(prod(layout), Path(settings["file"]), queries, keys, _flag("block-mask", settings, "0"))


def _frame_decay(_settings: Mapping[str, str], layout: Layout) -> Named:
    return patterns.frame_decay(layout[0], prod(layout[1:]))


def _repeated_window(settings: Mapping[str, str], layout: Layout) -> Named:
    window = _whole("repeated-window", "window", settings.get("window", ""))
    return patterns.repeated_window(layout[0], prod(layout[1:]), window)


def _sliding_tile(settings: Mapping[str, str], layout: Layout) -> Named:
    return sliding_tile(layout, *(_sides("sliding-tile", settings, field) for field in ("tile", "window")))


# patterns that follow the layout: name -> (constructor of settings and layout, fields it knows)
_SHAPED: Mapping[str, tuple[Callable[[Mapping[str, str], Layout], Named], tuple[str, ...]]] = {
    "documents": (_documents, ("lengths", "causal")), "frame-decay": (_frame_decay, ()),
    "sliding-tile": (_sliding_tile, ("tile", "window")), "repeated-window": (_repeated_window, ("window",)),
    "block-mask": (_block_mask, ("file", "queries", "keys", "causal")),
}  # fmt: skip


def _sides(name: str, settings: Mapping[str, str], field: str) -> Layout:
    return layout_sizes(settings.get(field, ""), f"pattern {name}: {field}")


def _flag(name: str, settings: Mapping[str, str], default: str) -> bool:
    flag = settings.get("causal", default)
    if flag not in ("0", "1"):
        raise CascadeSimError(f"pattern {name}: causal: '{shortened(flag)}'; give 0 or 1")
    return flag == "1"


def _settings(name: str, text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",") if part]
    if any(not equals or not value for _, equals, value in parts):
        raise CascadeSimError(f"pattern {shortened(name)}: '{shortened(text)}'; give field=value, several separated "
                              "by commas")
    settings = {field.strip(): value.strip() for field, _, value in parts}
    if len(settings) < len(parts):
        raise CascadeSimError(f"pattern {shortened(name)}: '{shortened(text)}' gives a field twice")
    return settings


def _number(name: str, field: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise CascadeSimError(f"pattern {name}: {field}: '{shortened(value)}' is not a number") from None
    if not 0 <= number < 2**53:
        raise CascadeSimError(f"pattern {name}: {field}: {shortened(value)}; give a number from 0 to 2^53")
    return int(number) if number.is_integer() else number


def _whole(name: str, field: str, value: str) -> int:
    number = _number(name, field, value)
    if not isinstance(number, int):
        raise CascadeSimError(f"pattern {name}: {field}: {shortened(value)}; give a whole number")
    return number
