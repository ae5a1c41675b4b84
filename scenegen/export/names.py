"""Names of the files in the folder of a scene, for those who write them and those who read them."""

SCENE_FILE = "scene.glb"
POSES_FILE = "poses.json"
PREVIEW_FILE = "preview.png"
STATE_FILE = "state.json"
STATE_TENSORS_FILE = "scene.safetensors"
VERSIONS_FOLDER = "versions"
"""Earlier versions of a scene that was changed, inside its folder."""
