"""The notation: text to the frozen IR and back, its operators, its errors."""
