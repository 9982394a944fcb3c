"""Results as tables, figures, traces and files."""
