"""Stored data sets: tables of assets and scenes, annotations, records, training poses and shards. CPU, no
rendering."""
