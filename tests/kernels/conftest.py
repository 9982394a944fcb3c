"""Kernels run in Triton's interpreter here; without torch and triton every test of this folder is skipped, and says
so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is decorated, so before any is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small products: a second thread makes the interpreter slower
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is unset


@pytest.fixture(scope="session", autouse=True)
def static_build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """Compiles every kernel, beside the tests before those that ask for it: they use one core, the compiler the rest.

    In a process of its own, because here kernels are decorated for the interpreter. Of several workers the first one
    starts it; it holds a lock of its folder, which ends with it.
    """
    if not any("built" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield None
        return
    own = tmp_path_factory.getbasetemp()
    workers = "PYTEST_XDIST_WORKER" in os.environ
    folder = (own.parent if workers else own) / "static"
    folder.mkdir(exist_ok=True)
    build = None
    with (folder / "lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
            (folder / "started").touch(exist_ok=False)
        except (BlockingIOError, FileExistsError):
            pass  # another worker's
        else:
            build = _started(folder, lock.fileno())
    yield folder
    if build is not None:
        if not workers or request.session.shouldstop or request.session.shouldfail:
            build.terminate()
        build.wait()  # others may still read it


def _started(folder: Path, lock: int) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "cascadesim.validation.kernels.static_counts", str(folder / "counts.json")]
    with (folder / "errors.txt").open("w") as errors:
        return subprocess.Popen(command, env=environment, stderr=errors, pass_fds=(lock,))
