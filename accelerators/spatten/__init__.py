"""SpAtten (HPCA'21): cascade token and head pruning, progressive quantization, a top-k engine on HBM."""
