"""Any text on a GPU: Einsums fused into kernels, which no library has, priced per unit."""
