"""The photo's camera and room, fitted to generated objects; what is seen of them; floor, scale, colours."""
