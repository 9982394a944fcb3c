"""Where compiled loops are kept between processes, looked at without the compiler; and how somebody who waits is told.

Numba takes half a second to load, on a new machine several, and then compiles for half a minute: whoever must say
something before that asks here. Knows neither what is kept nor whether it still fits its sources.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

_ROOT = Path(__file__).parents[1]  # the package
_PYTHON = f"py{sys.version_info.major}{sys.version_info.minor}"  # the part of a kept file's name


def anything_kept() -> bool:
    """Tell whether compiled code of this Python has been kept.

    The variables of the environment say where files are, and are what Numba reads; no figure depends on them.
    """
    return any(True for folder in _folders() for _ in folder.rglob(f"*.{_PYTHON}-checked.nbi"))


def _folders() -> tuple[Path, ...]:
    """Folders that Numba keeps code in: the one it was given, or those beside the sources, or the user's own."""
    given = os.getenv("NUMBA_CACHE_DIR")
    if given:
        return (Path(given),)

    users = Path(os.getenv("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (_ROOT / "accelerators", _ROOT / "simulator", users / "numba")


def say(text: str, end: str = "\n") -> None:
    """Print a line of the program's own on standard error, whether anybody listens or not."""
    if sys.stderr is not None:  # where `print` would take standard output
        with suppress(OSError, ValueError):
            print(f"cascadesim: {text}", end=end, file=sys.stderr, flush=True)
