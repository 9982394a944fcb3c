"""Attention of one new token over its cache: keys split over programs, then reduced. `reference` and `triton`.

q [B, H, E]; keys and values contiguous [B, G, M, E], or paged [pages, page size, G, E] with a table [B, pages of one].
"""
