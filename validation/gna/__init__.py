"""Neighborhood attention against an oracle, its paper and published times."""
