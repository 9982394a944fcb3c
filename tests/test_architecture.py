"""The shape of the code: layers point one way, imports are inert, sizes stay readable."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("einsum_cascades", "accelerators", "simulator", "validation")  # each may import itself and those before it
FOLDERS = (*LAYERS, "kernels")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

_spec = importlib.util.spec_from_file_location("house", ROOT / "tests" / "house.py")
assert _spec is not None
assert _spec.loader is not None
house = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(house)

LONGEST_MODULE_LINES, SHORTEST_MODULE_LINES = 350, 40
LONGEST_FUNCTION_LINES = 50
MEDIAN_FUNCTION_LINES = (6, 8)
MOST_MODULES_IN_A_FOLDER = 14
MOST_LOCAL_IMPORTS = 25  # statements, first-party, in a function: start-up of `--help`, heavy packages
SHORT_MODULES = {  # besides kernels' siblings with one signature
    "validation/measure/__main__.py": "python -m",
    "accelerators/mapped_array/accelerator.py": "an accelerator is a folder with this module, and everything is shared",
}
MOST_MODULES_OF_A_RUN = 80  # that one run imports: on arrays mappings and the mapper are 27 of them
MOST_CALLED = 70  # of them, with a function that it calls
PURE_MODULES = [path for path in MODULES if path.relative_to(ROOT).parts[0] in LAYERS[:3]]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def imports(path: Path) -> frozenset[str]:
    """Every absolute module name that `path` imports, wherever in the file; relative imports are refused."""
    found: set[str] = set()
    for node in ast.walk(house.tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(house.tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def roots(path: Path) -> set[str]:
    """The first names of what it imports."""
    return {module.split(".")[0] for module in imports(path)}


def layer_with(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "cascadesim" and len(parts) > 1 else None


def test_layers_point_one_way() -> None:
    allowed = {layer: {*LAYERS[: number + 1]} for number, layer in enumerate(LAYERS)}
    allowed["validation"].add("kernels")
    allowed["kernels"] = {"kernels"}
    reached = {name(path): {layer for layer in map(layer_of, imports(path)) if layer} - allowed[layer_with(path)]
               for path in MODULES}  # fmt: skip
    assert {path: layers for path, layers in reached.items() if layers} == {}


def test_our_folders_are_never_imported_by_their_bare_name() -> None:
    """`import simulator` works by accident from the root and makes a second copy of every class."""
    assert [name(path) for path in MODULES if roots(path) & {*FOLDERS, "tests"}] == []


def test_only_kernels_and_validation_may_reach_torch() -> None:
    assert [name(path) for path in PURE_MODULES if roots(path) & {"torch", "triton"}] == []


def test_kernels_import_only_torch_triton_and_numpy() -> None:
    for path in (ROOT / "kernels").rglob("*.py"):
        foreign = roots(path) - sys.stdlib_module_names
        assert foreign <= {"torch", "triton", "numpy", "cascadesim"}, name(path)


def test_pure_layers_use_no_clock_random_numbers_or_environment() -> None:
    kept_code = "accelerators/kept_code.py"  # where code is kept, as Numba does
    for path in PURE_MODULES:
        source = path.read_text(encoding="utf-8")
        assert not roots(path) & {"time", "random", "datetime", "secrets", "uuid"}, name(path)
        assert name(path) == kept_code or not ("os.environ" in source or "os.getenv" in source), name(path)
        assert "np.random" not in source, name(path)


def test_no_accelerator_is_named_in_the_simulator() -> None:
    names = {folder.name for folder in (ROOT / "accelerators").iterdir() if (folder / "presets").is_dir()}
    assert names
    for path in (ROOT / "simulator").rglob("*.py"):
        code = {node.id for node in ast.walk(house.tree(path)) if isinstance(node, ast.Name)}
        assert not code & names, name(path)
        assert not {module for module in imports(path) if set(module.split(".")) & names}, name(path)


def test_a_module_says_what_it_knows() -> None:
    assert [name(path) for path in MODULES if not ast.get_docstring(house.tree(path))] == []


def test_modules_and_functions_fit_a_screen() -> None:
    long = {name(path): house.lines(path) for path in MODULES if house.lines(path) > LONGEST_MODULE_LINES}
    long |= {where: lines for path in MODULES for where, lines in functions(path) if lines > LONGEST_FUNCTION_LINES}
    assert long == {}


def test_the_median_function_names_an_idea() -> None:
    least, most = MEDIAN_FUNCTION_LINES
    assert least <= house.median_function_lines() <= most


def test_a_folder_is_seen_at_a_glance() -> None:
    assert {folder: count for folder, count in house.per_folder().items() if count > MOST_MODULES_IN_A_FOLDER} == {}


def test_a_short_module_has_a_reason() -> None:
    short = {name(path) for path in house.modules() if house.lines(path) < SHORTEST_MODULE_LINES
             and path.name not in ("reference.py", "variants.py")}  # fmt: skip
    assert short <= set(SHORT_MODULES)
    assert len(SHORT_MODULES) <= 10


def test_no_modules_import_each_other() -> None:
    """Type-only imports included."""
    assert house.circles() == []


def test_few_imports_are_local_to_functions() -> None:
    assert len(house.local_imports()) <= MOST_LOCAL_IMPORTS, house.local_imports()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", house.RUNS)
def test_one_run_enters_few_modules(architecture: str) -> None:
    loaded, called = house.after_a_run(architecture)
    assert loaded <= MOST_MODULES_OF_A_RUN
    assert called <= MOST_CALLED


def test_a_class_name_means_one_thing() -> None:
    assert {each: where for each, where in house.class_names().items() if len(where) > 1} == {}


def test_no_module_is_named_after_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert not [name(path) for path in MODULES if path.stem in empty]
