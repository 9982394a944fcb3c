"""An array without a publication: whatever it runs, it runs by a mapping, given or found."""
