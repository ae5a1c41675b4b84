"""The photo's camera, fitted to generated objects, and colours taken from the photo."""
