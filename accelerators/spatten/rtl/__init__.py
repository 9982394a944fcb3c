"""SpAtten's RTL, cycle by cycle: a stream of heads through fetcher, multipliers and selection."""
