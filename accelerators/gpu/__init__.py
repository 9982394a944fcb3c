"""GPUs as accelerators: devices, kernels as data, and the time that a kernel takes on a device."""
