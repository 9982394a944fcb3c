"""WHERE a cascade runs and HOW LONG one task takes on one unit. Nothing here knows when a task runs."""
