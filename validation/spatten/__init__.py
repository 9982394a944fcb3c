"""SpAtten against its simulators, its RTL and its paper."""
