"""The GNA simulator: what a neighborhood pattern can give on given tiles."""
