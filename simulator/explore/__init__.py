"""Design-space exploration: spaces, search, fronts, their pages and plots."""
