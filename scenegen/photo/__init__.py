"""The photo's camera, fitted to generated objects; what it sees of them; floor, scale and colours."""
