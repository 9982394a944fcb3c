"""Models against published figures and measurements."""
