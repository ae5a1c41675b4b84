"""Several processes that train the toy regression together: ``python -m tests.toy_processes FOLDER OPTIONS``.

The ranks are forked from one process that has imported everything and run nothing, so that they start in
milliseconds. Each writes what it says to ``OUTPUT.rank0.log`` and so on in the folder.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from scenegen.trainers.checkpoints import StateError
from scenegen.trainers.distributed import RankLost, RanksDiffer, processes
from scenegen.trainers.validation import Validation
from tests.toy_training import BlockRegression, Source, toy_trainer
from trellis_modules.config import NamedConfig

SLOW_IMPORTS = ("torch._dynamo", "torch.utils.tensorboard")
"""What the ranks would import each for itself; the process that forks them does it once."""

ROOT = Path(__file__).resolve().parents[1]
ENDS_TOLD = (RankLost, RanksDiffer, StateError, OSError)


class Disturbed(Source):
    """Does something to the process of one rank at a step."""

    def __init__(self, rank: int, device: torch.device, trouble: dict[str, Any]) -> None:
        super().__init__(device=device)
        self.trouble = trouble if trouble.get("rank") == rank else {}

    def batch(self, step: int, slot: int = 0, slots: int = 1) -> Any:
        if self.trouble.get("step") == step:
            os.kill(os.getpid(), getattr(signal, self.trouble["signal"]))
            time.sleep(0.01)
        return super().batch(step, slot, slots)


class Looking:
    """Asks the averaged network by itself, as samplers do."""

    every = 4

    def __init__(self, objective: BlockRegression, device: torch.device) -> None:
        self.objective, self.ones = objective, torch.ones(3, 4, device=device)

    def __call__(self, step: int, suffix: str) -> dict[str, float]:
        with torch.no_grad():
            return {"validation": float(self.objective.net(self.ones).mean())}


def work(rank: int, folder: Path, options: dict[str, Any]) -> None:
    """What one rank does."""
    options = dict(options)
    size, port, trouble = options.pop("size"), options.pop("port"), options.pop("trouble", {})
    output, resume = folder / options.pop("output", "out"), options.pop("resume", False)
    validated = options.pop("validated", 0)
    if "grad_clip" in options:
        options["grad_clip"] = NamedConfig(**options["grad_clip"])
    device = torch.device("cuda", rank) if options.pop("gpu", False) else torch.device("cpu")
    with processes(rank, size, device, port=port, timeout_s=30):
        torch.manual_seed(rank)  # networks that start apart must come together
        objective = BlockRegression()
        objective.net.stem.weight.data += rank  # frozen ones, too
        source = Disturbed(rank, device, trouble)
        trainer = toy_trainer(output, source, objective=objective, device=device, i_ddpcheck=2, **options)
        if trouble.get("differ") == rank:
            trainer.learner.precision.flat_masters[0].data += 1
        watcher = Looking(trainer.objective, device)
        if validated:
            source = Source(device=device)
            watcher = Validation(trainer.objective, source, validated, trainer.world, batches=4 // size)
        trainer.watch(watcher)
        if resume and not trainer.resume():
            raise StateError("found nothing to resume")
        trainer.run()
        state = {f"objective.{n}": v for n, v in trainer.objective.named_buffers(recurse=False)}
        if trainer.stopped_by is None:
            networks = trainer.averaged_networks()
            state |= {f"ema.{n}": v.clone() for n, v in networks["net"].state_dict().items()}
        save_file({n: v.contiguous() for n, v in state.items()}, folder / f"{output.name}{rank}.safetensors")
        (folder / f"{output.name}{rank}.json").write_text(json.dumps([trainer.step, trainer.stopped_by]))


def fork(rank: int, folder: Path, options: dict[str, Any]) -> int:
    """Start a rank; returns the id of its process."""
    if child := os.fork():
        return child
    status = 1
    try:
        log = os.open(folder / f"{options['output']}.rank{rank}.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
        work(rank, folder, options)
        status = 0
    except ENDS_TOLD as error:
        logging.error("%s", error)
    except BaseException:
        logging.exception("rank %d", rank)
    finally:
        logging.shutdown()
        os._exit(status)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def main() -> None:
    """Fork the ranks, wait for all, and print their exit statuses; negative: killed by a signal."""
    folder, all_options = Path(sys.argv[1]), json.loads(sys.argv[2])
    for name in SLOW_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    told = []
    for options in all_options:
        options["port"] = free_port()
        children = [fork(rank, folder, options) for rank in range(options["size"])]
        told.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    print(json.dumps(told))


def run_processes(folder: Path, *options: dict[str, Any]) -> list[list[int]]:
    """Run groups of processes, one group after the other; returns the exit statuses of each."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.toy_processes", str(folder), json.dumps(options)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


if __name__ == "__main__":
    main()
