"""When the tiles of a group run: distances of a software pipeline, order of tiles, tasks of each."""
