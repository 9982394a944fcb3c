"""Damaged, spliced and hostile inputs through every reader: a value or one short line, in little time and memory.

The campaign runs in a process of its own, whose memory is limited; `campaign.py` repeats what it reports:
`python tests/fuzz/campaign.py --seed S --reader NAME` (with the same --inputs).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CAMPAIGN = Path(__file__).with_name("campaign.py")
GIBIBYTE = 2**30


def campaign(*options: str) -> dict[str, Any]:
    found = subprocess.run([sys.executable, "-W", "ignore", CAMPAIGN, *options], capture_output=True, text=True,
                           check=False, env={**os.environ, "PYTHONHASHSEED": "0"})  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def failures(found: dict[str, Any]) -> list[str]:
    return [f"{each['reader']}, seed {each['seed']}, input {each['number']}: {each['why']}: {each['input'][:300]}"
            for each in found["failures"]]


@pytest.mark.slow
def test_a_hundred_thousand_inputs_make_no_traceback() -> None:
    found = campaign("--seed", "20261129", "--inputs", "100000")
    assert failures(found) == []
    assert found["inputs"] >= 99_900
    assert found["peak_bytes"] < GIBIBYTE
    for name, counts in found["readers"].items():
        assert counts["value"] > 0, f"no mutated input of {name} is good any more: the corpus says nothing"


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 11))
def test_a_million_inputs_make_no_traceback(seed: int) -> None:
    found = campaign("--seed", str(seed), "--inputs", "100000")
    print(f"seed {seed}: {found['inputs']:,} inputs, {found['peak_bytes'] / 2**20:.0f} MiB at most")
    assert failures(found) == []
    assert found["peak_bytes"] < GIBIBYTE


SABOTAGE = {  # a reader that is wrong, and what the campaign says of it
    "1 / 0": "ZeroDivisionError",
    "next(iter(()))": "StopIteration",
    "sys.exit(2)": "SystemExit",
    "refuse('x' * 301)": "a message of more than 300 characters",
    "refuse('')": "a message of more than 300 characters, or of none",
    "refuse('\\x1b[31m')": "control characters in a message",
    "refuse('\\u202e')": "control characters in a message",
    "[None for _ in iter(int, 1)]": "more than 0.1 s of CPU",
    "bytes(2**31)": "MemoryError",
    "refuse('x' * 300)": "",
    "None": "",
}


@pytest.mark.slow
def test_the_campaign_notices_readers_that_are_wrong_in_each_way() -> None:
    program = (
        f"import json, sys, signal, resource; sys.path.insert(0, {str(CAMPAIGN.parent)!r})\n"
        "import campaign; from readers import Reader, Refused\n"
        "def refuse(message): raise Refused(message)\n"
        "signal.signal(signal.SIGVTALRM, campaign._slow); campaign.SECONDS = 0.1\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (campaign.MEMORY_BYTES,) * 2)\n"
        f"wrong = [Reader(text, eval('lambda content: ' + text), (b'a',), 1) for text in {list(SABOTAGE)!r}]\n"
        "print(json.dumps([campaign.verdict(reader, b'a')[1] for reader in wrong]))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for said, (text, why) in zip(json.loads(found.stdout), SABOTAGE.items(), strict=True):
        assert said.startswith(why), text
        assert bool(said) == bool(why), text
