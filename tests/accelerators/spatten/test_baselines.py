"""Baselines: operations by hand, memory where it is slower, nothing where nothing is published."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.spatten.baselines import A3, MNNFAST, TITAN_XP, dense_operations
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS


def attention(keys: int, queries: int) -> Operation:
    extents = {"b": 1, "h": 12, "g": 1, "m": keys, "p": queries, "e": 64, "f": 64}
    return Operation("attention", "attention", ATTENTION_3PASS, tuple(extents.items()))


def test_many_queries_run_at_the_published_throughput() -> None:
    """12 heads x 128 x 128 pairs x 64 x 2 products x 2 operations, at 221 GOP/s (HPCA 2021)."""
    work = attention(128, 128)
    assert dense_operations(work) == 12 * 128 * 128 * 64 * 2 * 2
    assert A3.seconds(work) == pytest.approx(dense_operations(work) / 221e9)


def test_one_query_waits_for_the_memory() -> None:
    """12 heads x 1024 keys and values of 64 x 12 bits = 96 bytes at 64 GB/s; 1.33 operations a byte, no more."""
    work = attention(1024, 1)
    assert A3.seconds(work) == pytest.approx(12 * 1024 * 2 * 96 / 64e9)


def test_only_mnnfast_leaves_values_in_memory() -> None:
    work = attention(1024, 1)
    assert A3.fetched_bytes(work, value_keep=0.25) == A3.fetched_bytes(work)
    assert MNNFAST.fetched_bytes(work, value_keep=0.25) == pytest.approx(12 * 1024 * 96 * 1.25)
    shared = attention(1024, 16)  # some query wants every value
    assert MNNFAST.fetched_bytes(shared, value_keep=0.25) == MNNFAST.fetched_bytes(shared)


def test_the_gpu_is_known_by_its_utilization() -> None:
    work = attention(1024, 1)
    assert TITAN_XP.seconds(work, "decode") == pytest.approx(dense_operations(work) / 0.01e12)
    with pytest.raises(CascadeSimError, match="nothing published for training; known: prefill, decode"):
        TITAN_XP.seconds(work, "training")
