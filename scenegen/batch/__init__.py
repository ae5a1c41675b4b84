"""Many scenes through one pipeline."""
