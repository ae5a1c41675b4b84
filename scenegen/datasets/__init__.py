"""Stored data sets: tables of assets and scenes, annotations, records, training poses, shards, and the sets
that training reads. CPU, no rendering."""
