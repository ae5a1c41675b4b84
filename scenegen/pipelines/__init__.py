"""Image and masks to a 3D scene, one file per stage."""
