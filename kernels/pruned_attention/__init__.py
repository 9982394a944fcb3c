"""What SpAtten prunes, as GPU kernels: importance, top-k, pruned heads, tokens and values, progressive quantization.

Counterparts in traffic and operations, not in mechanism: a GPU has no streaming top-k engine and skips values by tile.
`reference` and `triton`, and top-k in CUDA C++ in `selection`; SpAtten (HPCA 2021), section III.
"""
