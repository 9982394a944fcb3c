"""Measuring kernels on a GPU: writes records, compares nothing."""
