"""Whole models as engines ran them, published: rows of one kind, and what the models of ours make of them."""
