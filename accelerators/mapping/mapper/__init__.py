"""The mapper: which ways of fusing and tiling are looked at, what none of them undercuts, and which costs least."""
