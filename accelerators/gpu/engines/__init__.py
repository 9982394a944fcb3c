"""What serving engines make of a model on GPUs: what they fuse, which kernels they take, how devices add up."""
