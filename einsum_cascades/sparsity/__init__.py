"""Which pairs are attended: masks, neighborhoods, patterns, pruning."""
