"""The vocabulary of these tests: an attention operation in a few letters, a design with changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL, Mask
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

MODELS = {"BERT": (64, 12, 64), "TrXL": (64, 16, 64), "T5": (64, 8, 64), "XLM": (64, 16, 128)}  # B, H, E = F

MakeAttention = Callable[..., Operation]
MakeModel = Callable[[str, int], Operation]
MakeDesign = Callable[..., FuseMax]


@pytest.fixture(scope="session")
def attention() -> MakeAttention:
    def make(
        m: int, p: int | None = None, e: int = 64, f: int = 64, b: int = 1, h: int = 1, g: int = 1,
        mask: Mask = FULL, cascade: Cascade = ATTENTION_1PASS,
    ) -> Operation:  # fmt: skip
        sizes = (("b", b), ("h", h), ("g", g), ("m", m), ("p", m if p is None else p), ("e", e), ("f", f))
        return Operation("attention", "attention", cascade, sizes, mask=mask)

    return make


@pytest.fixture(scope="session")
def model(attention: MakeAttention) -> MakeModel:
    """Self-attention of a model of the FuseMax evaluation, batch 64 (FuseMax, section VI)."""

    def make(name: str, length: int) -> Operation:
        b, h, e = MODELS[name]
        return attention(length, b=b, h=h, e=e, f=e)

    return make


@pytest.fixture(scope="session")
def design() -> MakeDesign:
    def make(name: str = "fusemax", *settings: str) -> FuseMax:
        return cast(FuseMax, catalogue.load(name, settings))

    return make


@pytest.fixture(scope="session")
def small() -> Callable[..., FuseMax]:
    """A design of a few PEs, where everything can be counted by hand."""

    def make(side: int = 8, capacity_bytes: int = 65536, *settings: str, name: str = "fusemax") -> FuseMax:
        sizes = (
            f"pe_array.rows={side}", f"pe_array.columns={side}", f"vector_array.lanes={side}",
            f"global_buffer.row_bytes={2 * side}", f"global_buffer.capacity_bytes={capacity_bytes}",
        )  # fmt: skip
        return cast(FuseMax, catalogue.load(name, (*sizes, *settings)))

    return make
