"""Kernels run in Triton's interpreter here; without torch and triton every test of this folder is skipped, and says
so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is decorated, so before any is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small products: a second thread makes the interpreter slower
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is unset


@pytest.fixture(scope="session", autouse=True)
def static_build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """Compiles every kernel, beside the tests before those that ask for it: they use one core, the compiler the rest.

    In a process of its own, because here kernels are decorated for the interpreter.
    """
    if not any("built" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield ()
        return
    folder = tmp_path_factory.mktemp("static")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "cascadesim.validation.kernels.static_counts", str(folder / "counts.json")]
    with (folder / "errors.txt").open("w") as errors:
        build = subprocess.Popen(command, env=environment, stderr=errors)
        yield build, folder
        build.terminate()
        build.wait()
