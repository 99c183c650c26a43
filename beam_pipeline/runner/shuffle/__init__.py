"""Shuffle: runs sorted by partition and key, written map-side, merged, and read group by group."""
