"""Models as lists of operations: workloads, layers, extents, sizes."""
