"""A toy weight-stationary array with a vector unit: the worked example of a new accelerator."""
