"""Finds accelerators: every folder beside this file with a `presets/` folder, every YAML file in it a name.

A new accelerator is a new folder with `accelerator.py: build(name, content, source)`; a new configuration is one YAML
file. Nothing is registered. A folder that judges many designs at once has `exploration.py: evaluator(accelerator,
operations) -> Evaluator | None`; None, or no such file, and designs are planned one by one, with the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.protocol import Accelerator, Capabilities
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import SpecError, UnknownNameError, suggestion
from cascadesim.einsum_cascades.notation.schema import read_yaml, with_settings

Column: TypeAlias = NDArray[np.generic]
Floats: TypeAlias = NDArray[np.float64]

# Dotted field -> one value per design, in; latency_s, energy_j, dram_bytes and area_um2 of all operations together,
# out: nan for a design that cannot be or cannot run them. Physical accounting, closed form. Arrays are (designs,).
Evaluator: TypeAlias = Callable[[Mapping[str, Column]], Mapping[str, Floats]]
QUANTITIES = ("latency_s", "energy_j", "dram_bytes", "area_um2")

ROOT = Path(__file__).parent
_CONTRACT = ("name", "clock_hz", "units", "capabilities", "attention", "leakage_w", "area_um2", "plan")


@cache
def presets() -> Mapping[str, Path]:
    """Find the presets: `folder/preset` -> its file, in order of folder and name."""
    return {f"{path.parent.parent.name}/{path.stem}": path for path in sorted(ROOT.glob("*/presets/*.yaml"))}


def folders() -> tuple[str, ...]:
    """List the accelerators, one folder each."""
    return tuple(dict.fromkeys(name.split("/")[0] for name in presets()))


def preset_names() -> tuple[str, ...]:
    """List the short names, as `--arch` takes them. Where two folders share one, only `folder/preset` works."""
    short = [name.split("/")[1] for name in presets()]
    return tuple(sorted(name for name in set(short) if short.count(name) == 1))


def load(name: str, settings: Sequence[str] = ()) -> Accelerator:
    """Load the accelerator called `name` (preset, folder/preset, or YAML file), with `dotted.field=value` changes.

    Raises UnknownNameError for an unknown name, SpecError for a file or a setting that cannot be used.
    """
    path = find_file(name)
    found = build(with_settings(read_yaml(path), settings), path)
    if problems := unread(found, [setting.partition("=")[0].strip() for setting in settings]):
        raise SpecError("\n".join(f"--set {field}: changes nothing: {why}" for field, why in problems.items()))
    return found


def unread(accelerator: Accelerator, fields: Iterable[str]) -> Mapping[str, str]:
    """Find the dotted fields among `fields` that no figure of this accelerator depends on -> why."""
    found: dict[str, str] = {}
    for field in fields:
        for name, why in accelerator.capabilities.unread.items():
            if f"{field}.".startswith(f"{name}."):
                found.setdefault(field, why)
    return found


def build(content: Mapping[str, object], path: Path) -> Accelerator:
    """Build the accelerator that `content`, read from `path` and perhaps changed, describes. Raises SpecError."""
    folder = content.get("architecture")
    if folder is None:
        raise SpecError(f"{path.name}: architecture: missing; known: {', '.join(folders())}")
    if not isinstance(folder, str) or folder not in folders():
        raise SpecError(f"{path.name}: architecture: no accelerator {folder!r}{suggestion(str(folder), folders())}")
    label = path.stem if path in presets().values() else path.name
    found = _builder(folder)(label, content, path.name)
    missing = [name for name in _CONTRACT if not hasattr(found, name)]
    if missing or not isinstance(found.capabilities, Capabilities):
        lacks = f"no {', '.join(missing)}" if missing else "capabilities that are none (protocol.Capabilities)"
        raise SpecError(f"accelerators/{folder}/accelerator.py: build returns a {type(found).__name__} with {lacks}")
    return cast(Accelerator, found)


def _builder(folder: str) -> Callable[[str, Mapping[str, object], str], Any]:
    """Import `build` of the folder's `accelerator.py`. Raises SpecError where the one or the other is missing."""
    name = f"{__package__}.{folder}.accelerator"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.rpartition(".")[0]):  # something that the module imports
            raise
        raise SpecError(
            f"accelerators/{folder}: needs a module accelerator.py with build(name, content, source)"
        ) from None
    builder = getattr(module, "build", None)
    if not callable(builder):
        raise SpecError(f"accelerators/{folder}/accelerator.py: needs a function build(name, content, source)")
    return cast("Callable[[str, Mapping[str, object], str], Any]", builder)


def find_file(name: str) -> Path:
    """Find the file behind a preset, a folder/preset or a path. Raises UnknownNameError."""
    if name.lower().endswith((".yaml", ".yml")):
        return Path(name)
    matches = [path for full, path in presets().items() if name in (full, full.split("/")[1])]
    if len(matches) != 1:
        raise UnknownNameError("architecture", name, preset_names() if not matches else presets())
    return matches[0]


def find_evaluator(folder: str, accelerator: Accelerator, operations: Sequence[Operation]) -> Evaluator | None:
    """Find the evaluator of designs like `accelerator`, whose fields the columns replace; None where there is none."""
    module = f"{__package__}.{folder}.exploration"
    if find_spec(module) is None:
        return None
    return cast("Evaluator | None", import_module(module).evaluator(accelerator, operations))
