"""Memory of the devices that networks run on."""

import torch


def release_memory() -> None:
    """Return the cache of freed GPU memory to the driver."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
