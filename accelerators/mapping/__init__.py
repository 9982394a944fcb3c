"""Mappings as text: any cascade on an array of memories and units, its time, and the search for the best."""
