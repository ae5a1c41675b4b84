"""Refinement: shapes completed so that they stand, and objects out of each other and onto the floor."""
