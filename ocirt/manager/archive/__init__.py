"""tar archives of layers: one strict reader, one extractor that never leaves its folder, one writer."""
