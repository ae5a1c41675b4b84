"""SceneGen: one photo and its object masks to a 3D scene."""
