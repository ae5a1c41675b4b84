"""Objects as rigid bodies: colliders, mass, models for MuJoCo and USD, and what simulation says of them."""
