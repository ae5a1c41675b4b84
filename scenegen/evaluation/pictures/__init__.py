"""Pictures of predicted and true scenes through the photo's camera, and how alike they are."""
