"""From raw files to batches: sources, transforms, datasets and their loader."""
