"""Our kernels: static counts, gates, records, and what the model says of them."""
