"""Object-level building blocks: attention, transformers, structure networks, samplers, renderers."""
