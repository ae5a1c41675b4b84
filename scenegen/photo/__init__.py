"""The photo's camera and room, fitted to generated objects, and colours taken from the photo."""
