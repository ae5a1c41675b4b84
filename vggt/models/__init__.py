"""The aggregator and the complete model."""
