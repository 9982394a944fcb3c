"""FuseMax: one-pass attention on a 2D and a 1D array of processing elements."""
