"""Published figures of attention systems: rows of one kind, and what we predict of them."""
