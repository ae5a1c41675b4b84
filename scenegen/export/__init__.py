"""Files of a generated scene: one file for each format."""
