"""Robust bounded least squares, and an interval for each constant: what calibration needs and nothing more.

Every constant stays strictly inside its physical range (it is the logistic image of a free variable). Large residuals
count with their size instead of its square. A constant that no row speaks of stays where it starts. Deterministic;
knows neither a GPU nor a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Residuals: TypeAlias = Callable[[Floats], Floats]  # constants -> one residual a row

SOFT = 0.10  # residuals (of logarithms) beyond it count linearly: runs of one kernel scatter by about as much
STEP = 1e-4  # of the free variable, for the derivatives
STEPS = 40
GOOD_ENOUGH = 2e-4  # relative gain of the cost below which the search ends
STRONGEST_DAMPING = 1e5
PULL = 3e-4  # towards the start, in shares of the weight of all rows; it decides only what rows leave open
EDGE = 9.0  # the free variable at a bound: within 0.02 % of the range


@dataclass(frozen=True)
class Range:
    """The physical range of a constant, both ends excluded, and where the search starts."""

    name: str
    low: float
    high: float
    start: float


@dataclass(frozen=True)
class Fit:
    """Constants in the order of their ranges, and what the residuals cost there."""

    values: Floats
    cost: float


def fit(residuals: Residuals, ranges: Sequence[Range], weights: Floats, start: Floats | None = None,
        steps: int = STEPS) -> Fit:
    """Levenberg-Marquardt on the free variables with weights that soften large residuals."""
    home = _free(np.array([one.start for one in ranges]), ranges)
    free = home if start is None else _free(start, ranges)
    problem = Problem(residuals, ranges, weights / np.sum(weights), home)
    damping = 1e-2
    found = residuals(_bounded(free, ranges))
    cost = problem.cost(free, found)
    for _ in range(steps):
        free, found, better, damping = _step(problem, free, found, cost, damping)
        gained, cost = cost - better, better
        if gained <= GOOD_ENOUGH * cost or damping > STRONGEST_DAMPING:
            break
    return Fit(_bounded(free, ranges), cost)


@dataclass(frozen=True)
class Problem:
    """What is minimised: softened residuals by weight, and a weak pull towards `home`."""

    residuals: Residuals
    ranges: Sequence[Range]
    weights: Floats
    home: Floats

    def cost(self, free: Floats, found: Floats) -> float:
        """Pseudo-Huber: a square near 0, the size far away."""
        softened = SOFT**2 * (np.sqrt(1 + (found / SOFT) ** 2) - 1)
        return float(np.sum(self.weights * softened) + PULL * SOFT**2 * np.sum((free - self.home) ** 2) / 2)


def _step(problem: Problem, free: Floats, found: Floats, cost: float,
          damping: float) -> tuple[Floats, Floats, float, float]:
    """The first step that lowers the cost, damped as much as that needs; the same place if none does."""
    slopes = _slopes(problem.residuals, free, found, problem.ranges)
    soft = problem.weights / np.sqrt(1 + (found / SOFT) ** 2)
    pull = PULL * SOFT**2
    normal = slopes.T @ (soft[:, None] * slopes) + pull * np.eye(len(free))
    slope = slopes.T @ (soft * found) + pull * (free - problem.home)
    while damping <= STRONGEST_DAMPING:
        move = np.clip(np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slope), -1.0, 1.0)
        tried = np.clip(free + move, -EDGE, EDGE)
        there = problem.residuals(_bounded(tried, problem.ranges))
        better = problem.cost(tried, there)
        if better < cost:
            return tried, there, better, damping / 4
        damping *= 4
    return free, found, cost, damping


def _slopes(residuals: Residuals, free: Floats, found: Floats, ranges: Sequence[Range]) -> Floats:
    columns = []
    for place in range(len(free)):
        moved = free.copy()
        moved[place] += STEP
        columns.append((residuals(_bounded(moved, ranges)) - found) / STEP)
    return np.stack(columns, axis=1)


def _bounded(free: Floats, ranges: Sequence[Range]) -> Floats:
    low, high = _ends(ranges)
    return np.asarray(low + (high - low) / (1 + np.exp(-free)), dtype=np.float64)


def _free(values: Floats, ranges: Sequence[Range]) -> Floats:
    low, high = _ends(ranges)
    share = np.clip((values - low) / (high - low), 1e-3, 1 - 1e-3)
    return np.asarray(np.log(share / (1 - share)), dtype=np.float64)


def _ends(ranges: Sequence[Range]) -> tuple[Floats, Floats]:
    return np.array([one.low for one in ranges]), np.array([one.high for one in ranges])


def jackknife(refit: Callable[[NDArray[np.bool_]], Floats], groups: NDArray[np.int64], best: Floats) -> Floats:
    """Half of the 95 % interval of each constant: the scatter of fits that each leave one group of rows out."""
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        return np.zeros_like(best)
    values = np.stack([refit(groups != name) for name in names])
    count = len(names)
    variance = (count - 1) / count * np.sum((values - values.mean(axis=0)) ** 2, axis=0)
    return np.asarray(1.96 * np.sqrt(variance), dtype=np.float64)
