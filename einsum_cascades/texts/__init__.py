"""The cascades themselves, as text, and their catalogue."""
