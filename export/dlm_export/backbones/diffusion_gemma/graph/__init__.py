"""DiffusionGemma's graph; one file per part."""
