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
MOST_LOCAL_IMPORTS = 28  # first-party, in a function: start-up of `--help`, heavy packages, views that look upwards
SHORT_MODULES = {  # besides kernels' siblings with one signature
    "validation/measure/__main__.py": "python -m",
    "accelerators/mapped_array/accelerator.py": "an accelerator is a folder with this module, and everything is shared",
}
MOST_MODULES_OF_A_RUN = {"h100-sxm": 55, "spatten": 51, "flat": 59, "fusemax": 66}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Every absolute module name that `path` imports, wherever in the file; relative imports are refused."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "cascadesim" and len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_layers_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    allowed = {"kernels"} if own == "kernels" else set(LAYERS[: LAYERS.index(own) + 1])
    if own == "validation":
        allowed.add("kernels")
    reached = {layer for layer in map(layer_of, imports(path)) if layer}
    assert reached <= allowed, f"{name(path)} reaches {sorted(reached - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_our_folders_are_never_imported_by_their_bare_name(path: Path) -> None:
    """`import simulator` works by accident from the root and makes a second copy of every class."""
    bare = {module for module in imports(path) if module.split(".")[0] in (*FOLDERS, "tests")}
    assert not bare


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_kernels_and_validation_may_reach_torch(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    if path.relative_to(ROOT).parts[0] in LAYERS[:3]:
        assert not roots & {"torch", "triton"}


def test_kernels_import_only_torch_triton_and_numpy() -> None:
    for path in (ROOT / "kernels").rglob("*.py"):
        foreign = {module.split(".")[0] for module in imports(path)} - sys.stdlib_module_names
        assert foreign <= {"torch", "triton", "numpy", "cascadesim"}, name(path)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_pure_layers_use_no_clock_random_numbers_or_environment(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] in LAYERS[:3]:
        roots = {module.split(".")[0] for module in imports(path)}
        assert not roots & {"time", "random", "datetime", "secrets", "uuid"}
        source = path.read_text(encoding="utf-8")
        reads_environment = "os.environ" in source or "os.getenv" in source
        assert not reads_environment or name(path) == "accelerators/kept_code.py"  # where code is kept, as Numba does
        assert "np.random" not in source


def test_no_accelerator_is_named_in_the_simulator() -> None:
    names = {folder.name for folder in (ROOT / "accelerators").iterdir() if (folder / "presets").is_dir()}
    assert names
    for path in (ROOT / "simulator").rglob("*.py"):
        code = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
        assert not code & names, name(path)
        assert not {module for module in imports(path) if set(module.split(".")) & names}, name(path)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_says_what_it_knows(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_and_functions_fit_a_screen(path: Path) -> None:
    assert house.lines(path) <= LONGEST_MODULE_LINES
    for where, lines in functions(path):
        assert lines <= LONGEST_FUNCTION_LINES, f"{where}: {lines} lines"


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
    assert called <= loaded <= MOST_MODULES_OF_A_RUN[architecture]


def test_a_class_name_means_one_thing() -> None:
    assert {each: where for each, where in house.class_names().items() if len(where) > 1} == {}


def test_no_module_is_named_after_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert not [name(path) for path in MODULES if path.stem in empty]
