"""Make the raw files of a data set that looks like 3D-FUTURE, of free furniture.

python dataset_toolkits/build_lookalike.py --output-dir data/lookalike --assets 20 --scenes 10

Below the output folder it writes what the steps from ``build_metadata.py 3D-FUTURE`` on expect: the zip of
models, their table (``3D-FUTURE.csv``, for ``--table``), annotations with polygons and both kinds of run
lengths, and photos. Train scenes have train furniture, test scenes test furniture. The same arguments give
the same bytes. ``--source`` takes mesh packs of both splits, or the prepared furniture of Sweet Home 3D;
without it the furniture is procedural and nothing needs to be downloaded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from dataset_toolkits.lookalike.faults import add_faults
from dataset_toolkits.lookalike.models import PROCEDURAL, Furniture, draw_furniture, raw_model
from dataset_toolkits.lookalike.raw_files import SETS, TABLE_NAME, RawRoot
from dataset_toolkits.lookalike.scenes import compose_set
from dataset_toolkits.steps import add_output_dir, run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.synthesis.layouts.scene_composer import CompositionError

_TEST_SHARE = 0.3  # of assets and of scenes; at least one of each


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser)
    parser.add_argument("--assets", type=positive_int, default=20, help="models of both splits")
    parser.add_argument("--scenes", type=positive_int, default=10, help="scenes of both sets")
    parser.add_argument(
        "--source",
        nargs="+",
        default=[PROCEDURAL],
        metavar="SOURCE",
        help=f"{PROCEDURAL} (the default), mesh packs, or a folder of prepared furniture",
    )
    parser.add_argument("--max-objects", type=positive_int, default=5, help="most objects of a scene")
    parser.add_argument("--size", type=positive_int, default=512, help="pixels per side of the photos")
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--faults", action="store_true", help="add one of each fault that steps must survive")
    options = parser.parse_args(arguments)
    for flag, count in (("--assets", options.assets), ("--scenes", options.scenes)):
        if count < len(SETS):
            parser.error(f"{flag}: expected at least {len(SETS)}, one for each of {' and '.join(SETS)}")
    return options


def share_out(total: int) -> dict[str, int]:
    """How many of ``total``, at least 2, go to the train and to the test set."""
    test = min(total - 1, max(1, round(total * _TEST_SHARE)))
    return {"train": total - test, "test": test}


def make_root(options: argparse.Namespace) -> RawRoot:
    """Choose furniture, compose scenes and annotate them.

    Raises:
        ValueError: as `draw_furniture`.
        CompositionError: no scene can be made of the furniture.
    """
    rng = np.random.default_rng([options.seed, options.assets])
    assets, scenes = share_out(options.assets), share_out(options.scenes)
    chosen: dict[str, list[Furniture]] = {
        name: draw_furniture(options.source, name, assets[name], options.seed) for name in SETS
    }
    models = {name: [raw_model(mesh, info, rng) for mesh, info in chosen[name]] for name in SETS}
    ids = {model.info.id: model.model_id for name in SETS for model in models[name]}
    sets = {
        name: compose_set(
            chosen[name], ids, name, scenes[name], options.max_objects, options.size, options.seed
        )
        for name in SETS
    }
    root = RawRoot([model for name in SETS for model in models[name]], sets)
    if options.faults:
        add_faults(root)
    return root


def build(options: argparse.Namespace) -> int:
    """Make and write everything; the exit status. Errors as for `make_root`."""
    root = make_root(options)
    root.write(options.output_dir)
    photos = ", ".join(f"{len(raw.photos)} {name} photos" for name, raw in root.sets.items())
    print(f"{options.output_dir}: {len(root.models)} models in {TABLE_NAME}, {photos}")
    if root.faults:
        print(f"{len(root.faults)} faults, listed in faults.json")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Make and write everything; 1 when the furniture does not do."""
    options = parse_arguments(arguments)
    return run_step(lambda: build(options), ValueError, CompositionError)


if __name__ == "__main__":
    sys.exit(main())
