"""The decoder's graph; one file per part."""
