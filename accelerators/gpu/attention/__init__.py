"""What attention kernels take of an SM: a key tile, loops that were counted, tiles under a mask."""
