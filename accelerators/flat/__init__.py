"""FLAT and its unfused baseline: three-pass attention on a 2D and a 1D array of processing elements."""
