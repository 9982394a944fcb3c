"""The size and the order of the house: `python tests/house.py` prints it, `test_architecture` holds the limits."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("einsum_cascades", "accelerators", "simulator", "validation", "kernels")
RUNS = ("fusemax", "h100-sxm", "spatten", "flat")  # one `simulate` of each is looked at

_COUNTED = """
import sys
from contextlib import redirect_stdout
from io import StringIO
called = set()
def profile(frame, event, argument):
    name = frame.f_globals.get("__name__", "")
    if event == "call" and name.startswith("cascadesim.") and name not in called and not imported(frame):
        called.add(name)
def imported(frame):  # what a module's own lines call while it is imported: classes, decorators, tables
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals["__name__"].startswith("cascadesim."):
            return True
        frame = frame.f_back
    return False
from cascadesim.simulator.cli.commands import simulate_main
sys.argv = ["simulate", "--arch", {architecture!r}, "--workload", {workload!r}]
sys.setprofile(profile)
with redirect_stdout(StringIO()):
    try:
        simulate_main()
    except SystemExit:
        pass
sys.setprofile(None)
own = lambda names: sum(name.startswith("cascadesim.") and name in leaves for name in names)
leaves = {{name for name, module in sys.modules.items() if not hasattr(module, "__path__")}}
print(own(sys.modules), own(called))
"""


@cache
def modules() -> tuple[Path, ...]:
    """All product modules but the packages' own."""
    return tuple(sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
                        if path.name != "__init__.py"))  # fmt: skip


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def total_lines() -> int:
    return sum(lines(path) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def per_folder() -> Mapping[str, int]:
    """Modules in each folder."""
    return Counter(str(path.parent.relative_to(ROOT)) for path in modules())


def function_lengths() -> list[int]:
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for path in modules() for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]  # fmt: skip


def median_function_lines() -> float:
    return statistics.median(function_lengths())


def class_names() -> Mapping[str, list[str]]:
    """Public classes -> the modules that define them."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def imported(path: Path, *, local: bool) -> Iterator[str]:
    """Our modules that a module imports: anywhere at its top (type-only ones included), or `local` to its functions."""
    inside = {id(node) for function in ast.walk(tree(path)) if isinstance(function, ast.FunctionDef)
              for node in ast.walk(function)}  # fmt: skip
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cascadesim"):
            if (id(node) in inside) == local:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import) and (id(node) in inside) == local:
            yield from (alias.name for alias in node.names if alias.name.startswith("cascadesim"))


def local_imports() -> list[str]:
    """`file:line: module` of each first-party import statement in a function."""
    return sorted({
        f"{path.relative_to(ROOT)}:{each.lineno}: {each.module}"
        for path in modules() for function in ast.walk(tree(path)) if isinstance(function, ast.FunctionDef)
        for each in ast.walk(function)
        if isinstance(each, ast.ImportFrom) and (each.module or "").startswith("cascadesim")
    })  # fmt: skip


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or not."""
    names = {"cascadesim." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules()}
    edges = {name: {module for target in imported(path, local=False)
                    for module in (target, target.rpartition(".")[0]) if module in names and module != name}
             for name, path in names.items()}  # fmt: skip
    reached = {name: _reachable(name, edges) for name in edges}
    groups = {frozenset(other for other in reached[name] if name in reached[other]) for name in edges}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for target in edges[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


def after_a_run(architecture: str) -> tuple[int, int]:
    """Modules of ours that one `simulate` imports, and those of them with a function that it calls.

    Not the first run of all, which also says that it compiles; nor a Python that may keep nothing of what it reads, to
    which each run is the first.
    """
    workload = "gpt-2-small" if architecture == "spatten" else "bert"
    command = [sys.executable, "-c", _COUNTED.format(architecture=architecture, workload=workload)]
    keeping = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, env=keeping, capture_output=True, text=True, check=True)
    if done.stderr:
        done = subprocess.run(command, env=keeping, capture_output=True, text=True, check=True)
    loaded, called = map(int, done.stdout.split())
    return loaded, called


def main() -> None:
    print(f"{len(modules())} modules, {total_lines():,} lines, median function {median_function_lines():g} lines")
    for folder, count in sorted(per_folder().items()):
        print(f"  {folder:28s} {count:3d} modules")
    print("over 350 lines:", [str(path.relative_to(ROOT)) for path in modules() if lines(path) > 350])
    print("under 40 lines:", [str(path.relative_to(ROOT)) for path in modules() if lines(path) < 40])
    print("classes defined twice:", {name: where for name, where in class_names().items() if len(where) > 1})
    print("circles:", circles())
    print("imports in functions:", len(local_imports()), *local_imports(), sep="\n  ")
    for architecture in RUNS:
        loaded, called = after_a_run(architecture)
        print(f"{architecture}: imports {loaded} modules of ours, calls into {called}")


if __name__ == "__main__":
    main()
