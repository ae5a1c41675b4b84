"""Checkpoint folders: the schema and roles of ``pipeline.json``, and the networks that it names."""
