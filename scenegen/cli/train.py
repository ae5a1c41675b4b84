"""Train networks, as an experiment file describes it.

    scenegen train --config configs/small/structure_vae.json --output-dir outputs/structure_vae \\
        --packs data/packs/train.safetensors
    scenegen train --config configs/generation/ss_scenegen_flow_img_train.json \\
        --output-dir output/scene_flow --data-dir TRELLIS-500K/3D-FUTURE --num-gpus 8

The same command again goes on from the last saved state. Processes that torchrun started find each other.

Exit status: 0 trained, to the end or to the time limit; 1 the experiment cannot be built, or training failed;
2 wrong arguments; 130 Ctrl-C and 143 SIGTERM, after the state was saved.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

from scenegen.cli.train_options import LATEST, parse_arguments
from scenegen.cli.training_copies import use_copies
from scenegen.cli.training_output import StoredOutput
from scenegen.cli.training_process import device_of, run_process, set_up_logging, tell_disk
from scenegen.stores.urls import StoreError
from scenegen.trainers.checkpoints import CHECKPOINTS, StateStore
from scenegen.trainers.launch import AGAIN, FAILED, Place, places, run_processes
from trellis_modules.config import ConfigError
from trellis_modules.files import InUse, locked

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train until the configured step or the time limit, then export; returns the exit status."""
    options = parse_arguments(__doc__, arguments, prog)
    given = [*(prog or "python train.py").split(), *(arguments or ())]
    called = ["python", *sys.argv] if arguments is None else given
    options.command = shlex.join(called)
    set_up_logging(options.torchrun or Place())
    writes = (options.torchrun is None or options.torchrun.rank == 0) and options.node_rank == 0
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        with locked(options.output_dir, wait=False) if writes else nullcontext():
            use_copies(options)
            output = None if options.output_url is None else StoredOutput(options)
            if output is not None:
                output.fetch()
            return run_with_retries(options)
    except (ConfigError, StoreError) as error:
        logger.error("%s", error)
    except InUse as error:
        logger.error("--output-dir %s", error)
    except OSError as error:  # faults of the other files are told by errors of their own
        tell_disk(options.output_dir, error)
    return FAILED


def run_with_retries(options: argparse.Namespace) -> int:
    """Run, and run again after failures that may not come again; returns the exit status.

    Processes of another launcher are not started again from here: the others would wait for them.
    """
    retries = 0 if options.torchrun else options.auto_retry
    limit_s, start = options.time_limit, time.monotonic()
    for left in range(retries, -1, -1):
        status = _run(options, catches=left > 0)
        if status != AGAIN:
            return status
        if not options.anneal:  # else it is of all calls together, and the saved state knows the rest
            options.time_limit = max(0.0, limit_s - (time.monotonic() - start))
        if StateStore(options.output_dir / CHECKPOINTS).steps():
            options.load_dir, options.ckpt = None, LATEST
        if left:
            logger.warning(
                "training failed; it is started again from the last saved state, %d retries left", left - 1
            )
    logger.error("training failed; run the command again: it goes on from the last saved state")
    return FAILED


def _run(options: argparse.Namespace, catches: bool) -> int:
    """One attempt of all processes of this machine.

    After an error of CUDA a process cannot use its GPU any more: where errors are caught, a run on a GPU has
    a process of its own, which takes the error with it.
    """
    if options.torchrun is not None:
        return run_process(options.torchrun, options, catches)
    members = places(
        options.processes, options.num_nodes, options.node_rank, options.master_addr, options.master_port
    )
    is_alone = len(members) == 1 and options.num_nodes == 1
    if is_alone and not (catches and device_of(options, members[0]).type == "cuda"):
        return run_process(members[0], options, catches)
    return run_processes(run_process, (options, catches), members)
