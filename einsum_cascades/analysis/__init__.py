"""What follows from a text alone: order, passes, counts, footprint, values, rewrites."""
