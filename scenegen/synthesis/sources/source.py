"""What a batch source is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class BatchSource(Protocol):
    """Batches as a function of the step: a resumed run sees what an uninterrupted one would have seen."""

    def batch(self, step: int) -> Mapping[str, Tensor]: ...
