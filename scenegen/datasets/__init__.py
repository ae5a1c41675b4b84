"""Stored data sets: tables of assets and scenes, per-rank records, training poses. CPU, no rendering."""
