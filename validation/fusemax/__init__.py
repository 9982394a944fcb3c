"""FuseMax and FLAT against their publications."""
