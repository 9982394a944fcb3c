"""What is installed: five folders in one package, nothing generic at the top level, data files included."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import click
import pytest

from cascadesim import __version__

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".yaml", ".csv", ".json", ".cascade", ".typed", ".cu", ".cuh", ".h"}
FOLDERS = ("einsum_cascades", "accelerators", "simulator", "kernels", "validation")


def isolated(code: str, python: str = sys.executable) -> str:
    """Standard output of `code` in an isolated interpreter far from the checkout."""
    return subprocess.run(
        [python, "-I", "-c", code], cwd=ROOT.anchor, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_no_generic_name_is_importable_once_installed() -> None:
    code = f"import importlib.util as u; print([n for n in {(*FOLDERS, 'tests')!r} if u.find_spec(n)])"
    assert isolated(code) == "[]"


def test_every_folder_is_typed_and_linked_for_editable_installs() -> None:
    assert (ROOT / ".src" / "cascadesim" / "py.typed").is_file()
    for folder in FOLDERS:
        assert (ROOT / folder / "py.typed").is_file()
        assert (ROOT / ".src" / "cascadesim" / folder).resolve() == ROOT / folder


def test_public_names_are_imported_when_they_are_used() -> None:
    code = (
        "import sys, cascadesim, cascadesim.simulator as s; "
        "print([name for name in sys.modules if name.startswith('cascadesim.')]); "
        "print([name for of in (cascadesim, s) for name in dir(of) if not callable(getattr(of, name))])"
    )
    before, found = isolated(code).splitlines()
    assert before == "['cascadesim.einsum_cascades', 'cascadesim.simulator']"  # packages, none of their modules
    assert found == "['__version__']"


def test_the_public_functions_are_those_of_commands() -> None:
    """Also where a module of the same name has been imported."""
    code = (
        "import cascadesim, cascadesim.simulator.explore.explore, cascadesim.simulator.simulate; "
        "from cascadesim.simulator import api; "
        "print(cascadesim.simulate is api.simulate, cascadesim.explore is api.explore, cascadesim.nothing)"
    )
    with pytest.raises(subprocess.CalledProcessError) as refused:
        isolated(code)
    assert "module 'cascadesim' has no attribute 'nothing'" in refused.value.stderr
    assert isolated(code.replace(", cascadesim.nothing", "")) == "True True"


def test_the_version_is_that_of_the_distribution() -> None:
    code = "import cascadesim, importlib.metadata as m; print(cascadesim.__version__ == m.version('cascadesim'))"
    assert isolated(code) == "True"


def test_the_package_runs_as_the_command() -> None:
    found = subprocess.run([sys.executable, "-I", "-m", "cascadesim", "list", "devices"], cwd=ROOT.anchor,
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert "h100-sxm" in found.stdout


def test_kernels_init_is_inert() -> None:
    """Visible as `kernels` from the repository root, where transformers probes for another package of that name."""
    body = ast.parse((ROOT / "kernels" / "__init__.py").read_text(encoding="utf-8")).body
    docstring, version = body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(version, ast.Assign)
    assert ast.unparse(version) == "__version__ = '0'"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a user would get it: built from the source distribution."""
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(target), str(ROOT)], check=True, capture_output=True
    )
    return next(target.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_code_and_data_under_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {entry.split("/")[0] for entry in names} == {"cascadesim", f"cascadesim-{__version__}.dist-info"}
    assert {f"cascadesim/{name}" for name in ("__init__.py", "__main__.py", "py.typed")} <= set(names)
    expected = [
        path.relative_to(ROOT)
        for folder in (*FOLDERS, "examples")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in SUFFIXES
    ]
    missing = [str(path) for path in expected if f"cascadesim/{path.as_posix()}" not in names]
    assert len(expected) > 60
    assert not missing


@pytest.mark.slow
def test_an_editable_install_leaves_the_package_beside_the_links(tmp_path: Path) -> None:
    """A copy of `__init__.py` in site-packages would hide the folders."""
    code = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (made,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(made).namelist()
    assert "_cascadesim.pth" in names
    assert not [name for name in names if name.startswith("cascadesim/")]


@pytest.mark.slow
def test_the_installed_wheel_runs_the_main_job(wheel: Path, tmp_path: Path) -> None:
    """Its own environment holds the wheel alone; the dependencies come from the one that runs the tests."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    site = Path(isolated("import sysconfig; print(sysconfig.get_path('purelib'))", str(python)))
    zipfile.ZipFile(wheel).extractall(site)
    borrowed = Path(click.__file__).parents[1]
    links = [entry for entry in borrowed.iterdir() if not entry.name.startswith(("_cascadesim", "cascadesim"))]
    for entry in links:
        if not (site / entry.name).exists() and entry.suffix != ".pth":
            os.symlink(entry, site / entry.name)
    code = "import cascadesim.simulator as s; print(s.__path__[0]); "
    assert str(tmp_path) in isolated(code, str(python))
    run = "import sys; sys.argv = ['simulate', '--arch', 'fusemax', '--workload', 'llama', '--format', 'csv']; "
    run = "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'; " + run  # which compiles is told by every other run
    output = isolated(run + "from cascadesim.simulator.cli.commands import simulate_main; simulate_main()", str(python))
    assert "llama-3.1-8b" in output
