"""Which pairs are attended: masks, neighborhoods, patterns, pruning.

Patterns, and what they add to a layer, are imported when one is asked for: most runs have none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask


def pattern_mask(text: str, layout: tuple[int, ...], causal: bool) -> PatternMask:
    """The mask of the pattern that a text names. Raises CascadeSimError for a text that names none."""
    module = import_module(f"{__name__}.pattern_masks")
    mask: PatternMask = module.PatternMask(text, layout, causal)
    return mask
