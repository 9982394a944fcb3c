"""A campaign: many mutated inputs through the readers, in a process with little memory and a clock.

`python campaign.py --seed 1 --inputs 100000` prints one JSON object: how many inputs each reader got, how long it
took, and every kind of failure with an input that shows it. An input is named by seed, reader and number.
A reader answers with a value or with one error of ours: at most LONGEST characters, none of them a control character.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # its buffers for many cores are no memory of ours

from mutations import mutated
from readers import Reader, Refused, readers

LONGEST = 300  # characters of a message
SECONDS = 2.0  # of CPU for one input
MEMORY_BYTES = 2**30


class TooSlow(BaseException):
    """Passes every `except Exception` on its way up."""


def verdict(reader: Reader, content: bytes) -> tuple[str, str]:
    """("value" | "refused", "") or ("failed", why)."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        reader.read(content)
    except Refused as error:
        return _judged(str(error))
    except TooSlow:
        return "failed", f"more than {SECONDS} s of CPU; {_place()}"
    except BaseException as error:  # whatever else it is: that is the finding
        return "failed", f"{type(error).__name__}; {_place()}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "value", ""


def _judged(message: str) -> tuple[str, str]:
    if not message or len(message) > LONGEST:
        return "failed", f"a message of more than {LONGEST} characters, or of none"
    if not message.replace("\n", "").isprintable():
        return "failed", "control characters in a message"
    return "refused", ""


def _place() -> str:
    """The last line of ours, and the last line."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [frame for frame in frames if "cascadesim" in frame.filename]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in [*frames[-1:], *ours[:-3:-1]]]
    return " <- ".join(dict.fromkeys(places))


def inputs(reader: Reader, seed: int, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    for number in range(first, first + count):
        yield number, mutated(reader.corpus, random.Random(f"{seed}/{reader.name}/{number}"))


def _slow(number: int, frame: object) -> None:
    raise TooSlow


def campaign(seed: int, total: int, only: str | None, folder: Path) -> dict[str, object]:
    known = [reader for reader in readers(folder) if only in (None, reader.name)]
    weights = sum(reader.weight for reader in known)
    failures: dict[tuple[str, str], dict[str, object]] = {}
    counts: dict[str, Counter[str]] = {}
    for reader in known:
        counts[reader.name] = found = Counter[str]()
        began = time.process_time()
        for number, content in inputs(reader, seed, 0, round(total * reader.weight / weights)):
            what, why = verdict(reader, content)
            found[what] += 1
            if what == "failed":
                failures.setdefault((reader.name, why), {
                    "reader": reader.name, "why": why, "seed": seed, "number": number, "input": repr(content[:2000]),
                })  # fmt: skip
        found["cpu_ms"] = round((time.process_time() - began) * 1e3)
    return {
        "seed": seed, "inputs": sum(found["value"] + found["refused"] + found["failed"] for found in counts.values()),
        "readers": counts, "failures": list(failures.values()),
        "peak_bytes": peak_bytes(),
    }  # fmt: skip


def peak_bytes() -> int:
    """Of this program alone: what getrusage says holds that of the process that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--inputs", type=int, default=1000)
    options.add_argument("--reader", help="only this one")
    given = options.parse_args()
    signal.signal(signal.SIGVTALRM, _slow)
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        print(json.dumps(campaign(given.seed, given.inputs, given.reader, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
