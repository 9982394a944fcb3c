"""Generalized Neighborhood Attention in one, two and three dimensions, and attention under any mask, by tiles.

`reference.neighborhood_attention` and `triton.neighborhood_attention` take q, k, v [B, H, N, D] over a row-by-row
layout of N tokens and a `pattern.WindowPattern`. `block_sparse` runs any mask from a list of tiles.
"""
