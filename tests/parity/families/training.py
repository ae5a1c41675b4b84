"""Golden families of the training loop."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from scenegen.trainers.grad_clip import AdaptiveGradClipper
from tests.parity.golden import GoldenCase, evaluate_input, family

_DRAWS = re.compile(r"make_input\('[^']*\{k\}',\([^()]*\)\)")
_NO_LIMIT = -1.0


@family("AdaptiveGradClipper")
def adaptive_grad_clipper(case: GoldenCase) -> dict[str, Tensor]:
    """Norms, limits and clipped gradients of successive calls, some with a gradient that is not finite."""
    scale, first, second = _DRAWS.findall(case.meta["inputs"]["gradients at call k"])
    broken = case.meta["inputs"]["calls with b[0]=inf"]
    clipper = AdaptiveGradClipper(**case.config)
    rows: dict[str, list[Tensor]] = {"norm": [], "max_norm": [], "g1": [], "g2": []}
    for call in range(len(case.tensors["norm"])):
        size, *gradients = (evaluate_input(text.replace("{k}", str(call))) for text in (scale, first, second))
        gradients = [size.exp() * gradient for gradient in gradients]
        if call in broken:
            gradients[1][0] = torch.inf
        rows["norm"].append(clipper(gradients))
        limit = clipper.limit.clone()
        rows["max_norm"].append(torch.where(limit.isinf(), _NO_LIMIT, limit))
        rows["g1"].append(gradients[0])
        rows["g2"].append(gradients[1])
    return {name: torch.stack(values) for name, values in rows.items()}
