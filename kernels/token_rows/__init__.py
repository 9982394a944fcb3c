"""Moves rows of tokens: into tile order and back, or the kept ones together. `reference` and `triton`, one
signature."""
