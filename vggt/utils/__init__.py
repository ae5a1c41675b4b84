"""Image loading, camera encodings and geometry without parameters."""
