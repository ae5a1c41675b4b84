"""Scene geometry encoder: one transformer from images to cameras, depth, points and tracks.

Source: VGGT, arXiv:2503.11651; patch encoder DINOv2 with registers, arXiv:2304.07193 and arXiv:2309.16588.
"""
