"""SceneGen: one photo and its object masks to a 3D scene."""

__version__ = "0.1.0"
