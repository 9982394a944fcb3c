"""What a FuseMax design is: a spatial array, how tiles are bound to cycles, and where its published figures deviate.

Two arrays carry the 1-pass cascade: the 2D array takes what it has the operations for, the 1D array the rest, so the
same spec also describes the 1-pass cascade on the FLAT architecture (whose 2D array multiplies only). Knows no
extents. FuseMax (MICRO'24), sections V and VI.
"""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import model_validator

from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.schema import NonNegative, Positive, Spec

Policy: TypeAlias = Literal["epochs", "serial", "interleave"]


class Distances(Spec):
    """How many epochs after a tile enters each letter of the published binding works on it: a > b > c > d in age.

    a: SPNV, RNV, RD; b: SLNV; c: RM, SLN, SLD, PRM, SPD; d: QK, LM. FuseMax, section V and figure 4.
    """

    a: NonNegative
    b: NonNegative
    c: NonNegative
    d: NonNegative = 0

    @model_validator(mode="after")
    def _older_tiles_are_further(self) -> Self:
        if not self.d <= self.c < self.b <= self.a:
            raise ValueError("expected d <= c < b <= a: a tile passes d, c, b and a in this order")
        return self


class Binding(Spec):
    """When tiles may overlap.

    epochs: the published software pipeline over four tiles. serial: one tile at a time, its drain exposed.
    interleave: up to `in_flight` tiles at once, greedily.
    """

    policy: Policy
    in_flight: Positive | None = None
    distances: Distances | None = None  # None: the smallest that hide the drains

    @model_validator(mode="after")
    def _parameters_fit_the_policy(self) -> Self:
        if self.policy == "interleave" and self.in_flight is None:
            raise ValueError("policy interleave needs in_flight: how many tiles may be open at once")
        if self.policy != "interleave" and self.in_flight is not None:
            raise ValueError(f"in_flight belongs to policy interleave, not to {self.policy}")
        if self.policy != "epochs" and self.distances is not None:
            raise ValueError(f"distances belong to policy epochs, not to {self.policy}")
        return self


class Published(Spec):
    """What the published accounting of this configuration assumes against its own preset (artifact accounting only)."""

    resident_capacity_bytes: Positive | None = None  # buffer that P1 is chosen for; None: the capacity of the buffer
    charges_exponentials: bool = True
    charges_registers_1d_from_2d: bool = True  # the 1D registers where the 2D array reads and writes them


class FuseMaxSpec(SpatialArray):
    """A spatial array, its binding, and the assumptions of its published figures."""

    binding: Binding
    published: Published = Published()
