"""Training batches made on the training device: shapes are gathered, stretched, voxelised and rendered."""
