"""How sure one can be of generated objects: signs of the networks and the photo, and their worth."""
