"""What is queued for a sample, on a device whose time passes only by what is launched on it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cascadesim.validation.measure.timing import FEWEST, GRAPH_LAUNCHES, ROUNDS, CudaTimer, samples_of_round

US = 1e-6


@pytest.fixture
def torch() -> ModuleType:
    """The stand-in of the rehearsal, under a name of its own."""
    path = Path(__file__).parents[1] / "stand_ins" / "torch.py"
    spec = importlib.util.spec_from_file_location("stand_in_torch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Host:
    """Its clock passes by what it does; each launch takes it `launch_us`."""

    def __init__(self, torch: ModuleType, launch_us: float) -> None:
        self.time_s, self.launch_us, self.torch = 0.0, launch_us, torch

    def now(self) -> float:
        self.time_s += US
        return self.time_s

    def launches(self, *kernels: tuple[str, float]) -> Callable[[], None]:
        """One call of so many kernels, each with its time on the device."""

        def call() -> None:
            for name, takes_us in kernels:
                self.time_s += self.launch_us * US
                self.torch.DEVICE.launch(name, takes_us)

        return call


def measured(torch: ModuleType, host: Host, call: Callable[[], None], **only: Any) -> Any:
    failures: list[Any] = []
    timer = CudaTimer(7, torch, host.now)
    found = timer.measure({"ours": call}, only, lambda name: None, lambda name, error: failures.append(error))
    assert not failures, failures
    return found["ours"]


def test_every_sample_is_the_time_of_the_call_alone(torch: ModuleType) -> None:
    """Two kernels of 100 and 150 us: 250 us, 125 samples a round would be too many for 0.05 s, 200 are right."""
    host = Host(torch, 20.0)
    found = measured(torch, host, host.launches(("split", 100.0), ("reduce", 150.0)))
    count = ROUNDS * samples_of_round(250.0)
    assert found.cold == pytest.approx([250.0] * count)
    assert found.hot == pytest.approx([250.0] * count)
    assert found.rounds == [number for number in range(ROUNDS) for _ in range(count // ROUNDS)]
    assert found.method == "graph"
    assert found.host_us == pytest.approx(40.0 + 1.0)  # two launches, and a look at the clock
    assert found.many == []


def test_what_takes_long_is_launched_as_it_is(torch: ModuleType) -> None:
    host = Host(torch, 20.0)
    found = measured(torch, host, host.launches(("attention", 4000.0)))
    assert found.method == "events"
    assert len(found.cold) == ROUNDS * samples_of_round(4000.0)


def test_short_kernels_are_timed_many_in_a_row_too(torch: ModuleType) -> None:
    host = Host(torch, 5.0)
    found = measured(torch, host, host.launches(("empty", 2.0)))
    assert found.many == pytest.approx([2.0] * FEWEST * ROUNDS)


def test_one_state_of_the_caches_can_be_all_that_is_sampled(torch: ModuleType) -> None:
    host = Host(torch, 5.0)
    found = measured(torch, host, host.launches(("chase", 8000.0)), ours="cold")
    assert (len(found.cold), len(found.hot), len(found.rounds)) == (24, 0, 24)
    assert measured(torch, host, host.launches(("chase", 8000.0)), ours="hot").cold == []


def queued(torch: ModuleType, host: Host, call: Callable[[], None]) -> list[str]:
    """Names of what ran on the device, without allocations and waiting."""
    torch.DEVICE.launched.clear()
    measured(torch, host, call)
    return [name for name, _ in torch.DEVICE.launched if name not in ("allocate", "synchronize")]


def test_caches_are_flushed_by_reading_after_writing_and_the_flush_hides_the_host(torch: ModuleType) -> None:
    """A flush takes 70 us (35 written, 35 read), a host 150 us for a call: five flushes are twice as long."""
    host = Host(torch, 150.0)
    names = queued(torch, host, host.launches(("attention", 4000.0)))
    flush = ["write", "read"] * 5
    assert "-".join((*flush, "event", "attention", "event")) in "-".join(names)
    assert "-".join((*flush, "attention", "event", "attention", "event")) in "-".join(names)


def test_a_replayed_call_waits_for_three_flushes(torch: ModuleType) -> None:
    """200 us hide a host that only replays: 3 x 70 us."""
    host = Host(torch, 20.0)
    last = queued(torch, host, host.launches(("attention", 100.0)))[-10:]
    assert last == [*["write", "read"] * 3, "attention", "event", "attention", "event"]


def test_a_call_that_no_graph_can_hold_is_launched_as_it_is(torch: ModuleType) -> None:
    """It waits for the device in its middle, which a capture does not allow."""
    host = Host(torch, 20.0)

    def call() -> None:
        host.launches(("first", 50.0))()
        torch.cuda.synchronize()
        host.launches(("second", 50.0))()

    found = measured(torch, host, call)
    assert found.method == "events"
    assert found.cold[0] == pytest.approx(100.0)


def test_warm_up_is_by_the_clock_of_the_host(torch: ModuleType) -> None:
    """0.3 s of calls that take the host 1 ms each, however short they are on the device."""
    host = Host(torch, 1000.0)
    names = queued(torch, host, host.launches(("empty", 400.0)))
    warm = list(takewhile(lambda name: name == "empty", names[names.index("empty") :]))
    assert len(warm) == 300


def test_a_variant_that_fails_is_told_and_the_others_go_on(torch: ModuleType) -> None:
    host, calls, told = Host(torch, 5.0), iter(range(10**6)), []

    def breaks() -> None:
        if next(calls) > 50:
            raise RuntimeError("broken")
        torch.DEVICE.launch("breaks", 1e5)

    timer = CudaTimer(7, torch, host.now)
    variants = {"breaks": breaks, "ours": host.launches(("ours", 4000.0))}
    running: list[str] = []
    found = timer.measure(variants, {}, running.append, lambda name, error: told.append((name, str(error))))
    assert told == [("breaks", "broken")]
    assert list(found) == ["ours"]
    assert running[-1] == "ours"


def test_what_the_report_of_a_failure_raises_ends_the_case(torch: ModuleType) -> None:
    """As where the device answers nothing more."""

    def failed(name: str, error: Exception) -> None:
        raise KeyError("lost")

    def breaks() -> None:
        raise RuntimeError

    with pytest.raises(KeyError):
        CudaTimer(7, torch).measure({"a": breaks, "b": breaks}, {}, lambda name: None, failed)


def test_order_is_shuffled_and_every_round_has_every_variant(torch: ModuleType) -> None:
    host = Host(torch, 1.0)
    variants = {name: host.launches((name, 20e3)) for name in "abcdef"}
    running: list[str] = []
    CudaTimer(7, torch, host.now).measure(variants, {}, running.append, pytest.fail)
    rounds = [running[6 * number : 6 * number + 6] for number in range(1, 1 + ROUNDS)]
    assert all(sorted(each) == list("abcdef") for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_a_graph_of_many_holds_so_many(torch: ModuleType) -> None:
    assert GRAPH_LAUNCHES == 50
    host = Host(torch, 5.0)
    names = queued(torch, host, host.launches(("empty", 2.0)))
    assert "event-" + "empty-" * 50 + "event" in "-".join(names)
