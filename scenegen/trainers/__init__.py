"""Training: one loop (`trainer`), and one objective per network."""
