"""Command lines that cannot be: status 2 and one line."""

from __future__ import annotations

import pytest

import evaluate
import inference
import train
from scenegen.cli import segment
from scripts import assemble_checkpoint, convert_checkpoint, download_checkpoints
from tests.e2e.malformed import Case, assert_one_line, command_case

CASES: dict[str, Case] = {
    "inference: steps zero": command_case(
        "argument --steps: expected a whole number from 1 to 10000, got '0'",
        lambda i: i.run(inference, "--steps", "0"),
    ),
    "inference: steps a word": command_case(
        "argument --steps: expected a whole number from 1 to 10000, got 'many'",
        lambda i: i.run(inference, "--steps", "many"),
    ),
    "inference: seed a fraction": command_case(
        "argument --seed: expected a whole number, got '1.5'", lambda i: i.run(inference, "--seed", "1.5")
    ),
    "inference: seed of more than 64 bits": command_case(
        "argument --seed: expected a number from -2^63 to 2^64 - 1, got '18446744073709551616'",
        lambda i: i.run(inference, "--seed", str(2**64)),
    ),
    "inference: port unknown to TCP": command_case(
        "argument --port: expected a whole number from 1 to 65535, got '65536'",
        lambda i: i.run(inference, "--port", "65536"),
    ),
    "inference: output is a file": command_case(
        "scene.jpg: expected a folder for the results, ",
        lambda i: i.run(inference, "--input", i.scene, "--output", i.scene / "scene.jpg"),
    ),
    "inference: format unknown": command_case(
        "argument --formats: unknown format 'dwg'; known: ",
        lambda i: i.run(inference, "--formats", "glb,dwg"),
    ),
    "inference: device unknown": command_case(
        "argument --device: expected cpu, cuda, cuda:<n> or mps, got 'tpu7'",
        lambda i: i.run(inference, "--device", "tpu7"),
    ),
    "inference: device not there": command_case(
        "argument --device: expected a device of this machine, got 'cuda:99'; use cpu",
        lambda i: i.run(inference, "--device", "cuda:99"),
    ),
    "inference: dtype unknown": command_case(
        "argument --dtype: invalid choice: 'int8'", lambda i: i.run(inference, "--dtype", "int8")
    ),
    "inference: flag unknown": command_case(
        "unrecognized arguments: --stepz 3", lambda i: i.run(inference, "--stepz", "3")
    ),
    "inference: input missing": command_case(
        "gone: expected a folder, found nothing", lambda i: i.run(inference, "--input", i.root / "gone")
    ),
    "inference: checkpoint missing": command_case(
        "gone/pipeline.json: expected a checkpoint folder with pipeline.json, found none",
        lambda i: i.run(
            inference, "--input", i.scene, "--output", i.root / "out", "--checkpoint", i.root / "gone"
        ),
    ),
    "evaluate: truth not given": command_case(
        "the following arguments are required: --truth", lambda i: i.run(evaluate, "--prediction", i.root)
    ),
    "evaluate: points below one": command_case(
        "argument --num-points: expected a whole number from 1 to 10000000, got '0'",
        lambda i: i.run(evaluate, "--prediction", i.root, "--truth", i.root, "--num-points", "0"),
    ),
    "evaluate: folder missing": command_case(
        "gone: expected a folder of scenes, got no such folder",
        lambda i: i.run(evaluate, "--prediction", i.root / "gone", "--truth", i.root),
    ),
    "evaluate: table without report": command_case(
        "--csv needs --output", lambda i: i.run(evaluate, "--prediction", i.root, "--truth", i.root, "--csv")
    ),
    "download: release unknown": command_case(
        "--only: unknown release 'scenegne'; known: scenegen, vggt, dinov2, sam2, trellis",
        lambda i: i.run(download_checkpoints, "--only", "scenegne"),
    ),
    "download: endpoint no URL": command_case(
        "--endpoint: expected a URL such as https://huggingface.co, got 'mirror'",
        lambda i: i.run(download_checkpoints, "--endpoint", "mirror"),
    ),
    "download: list missing": command_case(
        "no.json: no such configuration file",
        lambda i: i.run(download_checkpoints, "--manifest", i.root / "no.json"),
    ),
    "convert: network unknown": command_case(
        "--like: expected a .json that exists, a role (sparse_structure_flow_model, ",
        lambda i: i.run(convert_checkpoint, "a.pt", "--like", "dino"),
    ),
    "convert: safetensors": command_case(
        "a.safetensors: expected a pickle, got safetensors, which need no conversion",
        lambda i: i.run(convert_checkpoint, "a.safetensors"),
    ),
    "inference: input of 5000 characters": command_case(
        "argument --input: expected names of at most 255 bytes, got 'nnnn",
        lambda i: i.run(inference, "--input", "n" * 5000),
    ),
    "inference: output with a null character": command_case(
        "argument --output: expected a text without null characters",
        lambda i: i.run(inference, "--output", "a\0b"),
    ),
    "inference: a billion steps": command_case(
        "argument --steps: expected a whole number from 1 to 10000, got '1000000000'",
        lambda i: i.run(inference, "--steps", "1000000000"),
    ),
    "inference: steps of 5000 digits": command_case(
        "argument --steps: expected a whole number from 1 to 10000, got '9999",
        lambda i: i.run(inference, "--steps", "9" * 5000),
    ),
    "inference: no pixels": command_case(
        "argument --max-pixels: expected a whole number from 1 to 178956970, got '0'",
        lambda i: i.run(inference, "--max-pixels", "0"),
    ),
    "evaluate: folder of 5000 characters": command_case(
        "argument --prediction: expected names of at most 255 bytes",
        lambda i: i.run(evaluate, "--prediction", "n" * 5000, "--truth", i.root),
    ),
    "evaluate: a million processes": command_case(
        "argument --workers: expected a whole number from 1 to 1024",
        lambda i: i.run(evaluate, "--prediction", i.root, "--truth", i.root, "--workers", "1000000"),
    ),
    "train: folder with a null character": command_case(
        "argument --output-dir: expected a text without null characters",
        lambda i: i.run(train, "--config", i.root, "--output-dir", "a\0b"),
    ),
    "segment: input of 5000 characters": command_case(
        "argument --input: expected names of at most 255 bytes",
        lambda i: i.run(segment, "--input", "n" * 5000),
    ),
    "download: endpoint that is half an address": command_case(
        "--endpoint: Invalid IPv6 URL, got 'http://[::1'",
        lambda i: i.run(download_checkpoints, "--endpoint", "http://[::1"),
    ),
    "download: list in a named pipe": command_case(
        "list.json: expected a file, got a named pipe",
        lambda i: i.run(download_checkpoints, "--manifest", i.pipe(i.root / "list.json")),
    ),
    "assemble: nothing was trained": command_case(
        "expected the folders of finished trainings, got others (",
        lambda i: i.run(
            assemble_checkpoint,
            *("--structure-vae", i.root, "--scene-flow", i.root, "--output", i.root / "out"),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_commands_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
