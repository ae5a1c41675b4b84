"""Comparing predicted scenes with true ones: loading, alignment, metrics and reports."""
