"""Real kernels (Triton, CUDA C++) for each mechanism that the simulator models."""

__version__ = "0"  # read by transformers when the repository root is on sys.path
