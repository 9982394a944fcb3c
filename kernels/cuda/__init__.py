"""CUDA C++ kernels: compiled by NVRTC (or nvcc) and launched through the driver; on a CPU through a host shim.

A source is `<family>/cuda/<name>.cu`, plain extern "C", with no header but `instructions.cuh` beside this file. Torch
tensors on a CPU go to the shim, those on a GPU to the driver: the same call and the same text.
"""
