"""Kernels run in Triton's interpreter here; without torch and triton every test of this folder is skipped, and says
so."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is decorated, so before any is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small products: a second thread makes the interpreter slower
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is unset
