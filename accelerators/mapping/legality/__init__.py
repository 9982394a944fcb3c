"""Which Einsums may share loops, have loops of their own, and keep tensors where: every reason why not, in one line."""
