"""Scenes composed while training: furniture, layouts, pictures and the batches made of them."""
