"""Limits of what is read and built: above them a file is refused with one line that says so.

They are far above what people have, and far below what fills the memory or the day of a machine. Every
constant has a test at the limit and just above it.
"""

# ---- JSON

MAX_JSON_BYTES = 64 << 20
"""Of a JSON file, and of the JSON part of a GLB file."""

MAX_JSON_VALUES = 2_000_000
"""Commas and opening brackets in a JSON text, which are at least as many as the values that it holds."""

MAX_JSON_DEPTH = 64
"""Objects and lists around a value."""

MAX_JSON_DIGITS = 64
"""Characters of a number; a 64-bit float needs 24, a 64-bit integer 20."""

MAX_JSON_NAME = 1024
"""Characters of the name of a value, and of a text that names a file, a network or a node."""

# ---- arrays and pictures

MAX_ARRAY_BYTES = 1 << 30
"""Of the numbers of an array file."""

MAX_ARRAY_DIMENSIONS = 8
"""Of an array file."""

MAX_PIXELS = 1 << 26
"""Of a picture, before it is decoded; ``--max-pixels`` changes it. A pixel costs about 16 bytes."""

HIGHEST_MAX_PIXELS = 178_956_970
"""Of ``--max-pixels``: Pillow refuses larger pictures as decompression bombs."""

# ---- tables

MAX_TABLE_LINE = 1 << 20
"""Characters of a line of a CSV table; Python's reader takes 131,072 a cell."""

# ---- scenes as GLB

MAX_GLB_BYTES = 1 << 30
"""Of a GLB file, which is read as a whole."""

MAX_GLB_NODES = 16_384
"""Visits of nodes in one walk of the node tree; a node that several parents share is visited for each."""

MAX_GLB_DEPTH = 256
"""Nodes above a node."""

MAX_GLB_ROWS = 50_000_000
"""Vertices and corners of triangles in a scene; those of a mesh count for each node that shows it."""

MAX_SYMMETRY = 360
"""Order of an object's rotational symmetry: pose errors are measured for each of its rotations."""

# ---- states of scenes

MAX_STATE_BYTES = 2 << 30
"""Of the tensors of a scene's state: those of 40 objects with textures of 4,096 pixels take 1 GiB."""

MAX_CANDIDATES = 64
"""Samples of a scene that are made at once."""

# ---- networks and samplers

MAX_NETWORKS = 64
"""Entries of the table ``models`` of a ``pipeline.json``."""

MAX_BLOCKS = 256
"""Blocks, layers, levels, iterations or heads of a network."""

MAX_CHANNELS = 65_536
"""Channels of a layer."""

MAX_GRID = 256
"""Voxels along the edge of a network's grid."""

MAX_RATIO = 64
"""Of a feed-forward network's inner width over its outer one."""

MAX_IMAGE_SIDE_PX = 2048
"""Side of the pictures that an encoder sees; attention grows with its fourth power."""

MAX_STEPS = 10_000
"""Steps of a sampler; 25 to 100 are usual."""

# ---- processes and samples

MAX_WORKERS = 1024
"""Processes that a command starts."""

MAX_SURFACE_POINTS = 10_000_000
"""Points on the surface of an object that the evaluation draws."""

# ---- downloads and conversion

MAX_DESCRIPTION_BYTES = 4 << 20
"""Of a ``pipeline.json`` or a network's description that is fetched."""

MAX_DOWNLOAD_BYTES = 64 << 30
"""Of a file whose size its server does not announce."""

SLOWEST_BYTES_PER_S = 1024
"""Below this speed, measured over `SLOW_WINDOW_S`, a transfer counts as broken."""

SLOW_WINDOW_S = 60.0
"""Seconds over which the speed of a transfer is measured."""

MAX_SHARING = 4
"""Bytes that the tensors of a pickle claim together, over its own bytes; shared weights count twice."""
