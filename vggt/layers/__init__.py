"""Transformer layers shared by the patch encoder, the aggregator and the heads."""
