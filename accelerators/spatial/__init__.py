"""What every spatial array shares: products, element-wise work, double buffering."""
