"""Placement refinement: objects out of each other and onto the floor, by small changes of their poses."""
