"""Pictures of composed scenes: ray cast for stills, rasterised in batches for training."""
