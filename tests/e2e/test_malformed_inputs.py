"""Every malformed input gives one line that names what is wrong, at the boundary where it enters.

The table `CASES` is the count of what is covered here; faults of single images and of exported weights have
more of them in the tests of ``scenegen.inputs.scene_folder`` and ``tests/e2e/test_checkpoint_faults.py``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate
import inference
from scenegen.evaluation.glb import GlbError, read_glb
from scenegen.evaluation.loading import EvaluationError, find_scene_files, load_poses
from scenegen.hub import HubError, push_to_hub, resolve_checkpoint
from scenegen.hub.conversion import convert, find_network
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import find_scene_folders
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.trainers.experiment import load_experiment
from scripts import convert_checkpoint, download_checkpoints
from tests.hub_server import Hub
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import ConfigError

PHOTO_SIZE = (48, 36)


class CommandFault(Exception):
    """A command that ended with status 2; the message is the last line it wrote."""


@dataclass
class Inputs:
    """Good inputs for a case to spoil, and the ways in.

    Attributes:
        root: empty folder.
        checkpoint: toy checkpoint.
        scene: scene folder with two objects.
        hub: server with the checkpoint as ``owner/toy``.
        run: command (module with ``main``) and arguments -> raises `CommandFault`.
    """

    root: Path
    checkpoint: Path
    scene: Path
    hub: Hub
    run: Callable[..., None]

    def describe(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the args of ``pipeline.json``, and load the checkpoint."""
        path = self.checkpoint / "pipeline.json"
        raw = json.loads(path.read_text())
        change(raw["args"])
        path.write_text(json.dumps(raw))
        self.load()

    def describe_as(self, text: str) -> None:
        """Replace ``pipeline.json``, and load the checkpoint."""
        (self.checkpoint / "pipeline.json").write_text(text)
        self.load()

    def load(self) -> None:
        """Load the checkpoint."""
        SceneGenPipeline.from_pretrained(self.checkpoint)

    def network(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the flow's description, and load the checkpoint."""
        path = self.checkpoint / "ckpts" / "flow.json"
        raw = json.loads(path.read_text())
        change(raw)
        path.write_text(json.dumps(raw))
        self.load()

    def weights(self, content: bytes, suffix: str) -> None:
        """Replace the flow's weights by a file of another kind, and load the checkpoint."""
        (self.checkpoint / "ckpts" / "flow.safetensors").unlink()
        (self.checkpoint / "ckpts" / f"flow{suffix}").write_bytes(content)
        self.load()

    def poses(self, value: Any) -> None:
        """Read a pose file."""
        path = self.root / "poses.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        load_poses(path)

    def pickle(self, content: Any, **keywords: Any) -> None:
        """Convert a pickle."""
        torch.save(content, self.root / "net.pt")
        convert(self.root / "net.pt", **keywords)

    def image(self, name: str, image: Image.Image | bytes) -> None:
        """Replace a file of the scene, and read it."""
        if isinstance(image, bytes):
            (self.scene / name).write_bytes(image)
        else:
            image.save(self.scene / name)
        read_scene(self.scene)

    def labels(self, image: Image.Image | bytes) -> None:
        """Make a label image the only description of the objects, and read the scene."""
        for path in self.scene.glob("[0-9]*.png"):
            path.unlink()
        self.image("labels.png", image)

    def fetch(self, name: str, revision: str | None = None, change: Mapping[str, bytes | None] | None = None):
        """Resolve a repository, after a change of its files (None removes)."""
        pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
        for file, content in (change or {}).items():
            if content is None:
                del self.hub.files[file]
            else:
                self.hub.files[file] = content
        resolve_checkpoint(name, revision, self.root / "cache", endpoint=self.hub.endpoint)


@dataclass(frozen=True)
class Case:
    """What is done with good inputs, and what the one line must say."""

    spoil: Callable[[Inputs], Any]
    says: str
    error: type[Exception]


def _grey(level: int, size: tuple[int, int] = PHOTO_SIZE) -> Image.Image:
    return Image.new("L", size, level)


POSE = {"id": 0, "translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1}
TENSOR = torch.zeros(1)


class _Code:
    def __reduce__(self):
        return print, ("this must not run",)


def _checkpoint(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    return Case(spoil, says, CheckpointError)


def _description(says: str, change: Callable[[dict[str, Any]], Any]) -> Case:
    return _checkpoint(says, lambda i: i.describe(change))


def _hub(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    return Case(spoil, says, HubError)


def _scene(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    return Case(spoil, says, SceneInputError)


def _evaluation(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    return Case(spoil, says, EvaluationError)


def _command(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    return Case(spoil, says, CommandFault)


def _sampler(**params: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda args: args["sparse_structure_sampler"]["params"].update(params)


CASES: dict[str, Case] = {
    # pipeline.json
    "description empty": _checkpoint(
        "pipeline.json: not valid JSON, line 1 column 1", lambda i: i.describe_as("")
    ),
    "description is a list": _checkpoint(
        'pipeline.json: expected {"name": ..., "args": {...}}, got list', lambda i: i.describe_as("[]")
    ),
    "description without a name": _checkpoint(
        "pipeline.json: missing key 'name'", lambda i: i.describe_as('{"args": {}}')
    ),
    "description of something else": _checkpoint(
        "pipeline.json: missing key 'models'", lambda i: i.describe_as('{"name": "Other", "args": {}}')
    ),
    "description with args as text": _checkpoint(
        "pipeline.json: args: expected an object, got 'b'",
        lambda i: i.describe_as('{"name": "a", "args": "b"}'),
    ),
    "description with more beside args": _checkpoint(
        "pipeline.json: unknown key 'argz'", lambda i: i.describe_as('{"name": "a", "argz": {}}')
    ),
    "description in another encoding": _checkpoint(
        "pipeline.json: cannot be read as text",
        lambda i: ((i.checkpoint / "pipeline.json").write_bytes(b"\xff\xfe{"), i.load()),
    ),
    "description is a folder": _checkpoint(
        "pipeline.json: expected a checkpoint folder with pipeline.json, found none",
        lambda i: (
            (i.checkpoint / "pipeline.json").unlink(),
            (i.checkpoint / "pipeline.json").mkdir(),
            i.load(),
        ),
    ),
    "no models": _description("missing key 'models'", lambda args: args.pop("models")),
    "models is a list": _description(
        "models: expected an object, got ['ckpts/flow']", lambda args: args.update(models=["ckpts/flow"])
    ),
    "stem is a number": _description(
        "models['sparse_structure_decoder']: expected str, got 3",
        lambda args: args["models"].update(sparse_structure_decoder=3),
    ),
    "stem leads nowhere": _description(
        "ckpts/no.json, found none; put its .json and .safetensors there; the bundled small model",
        lambda args: args["models"].update(sparse_structure_decoder="ckpts/no"),
    ),
    "no image encoder": _description(
        "missing key 'image_cond_model'", lambda args: args.pop("image_cond_model")
    ),
    "image encoder not downloaded": _description(
        "about 1.2 GB): scenegen download --only dinov2; the bundled",
        lambda args: args.update(image_cond_model="dinov2_vitl14_reg"),
    ),
    "no geometry encoder": _description(
        "vggt_model: expected the stem of the geometry encoder, got none", lambda args: args.pop("vggt_model")
    ),
    "geometry encoder not downloaded": _description(
        "it comes from facebook/VGGT-1B (https://huggingface.co/facebook/VGGT-1B/resolve/",
        lambda args: args.update(vggt_model="checkpoints/VGGT-1B"),
    ),
    "image size is text": _description(
        "image_size: expected int, got 'large'", lambda args: args.update(image_size="large")
    ),
    "image size is a truth value": _description(
        "image_size: expected int, got True", lambda args: args.update(image_size=True)
    ),
    "no sampler": _description(
        "missing key 'sparse_structure_sampler'", lambda args: args.pop("sparse_structure_sampler")
    ),
    "sampler is a name only": _description(
        "sparse_structure_sampler: expected an object for SamplerConfig, got 'Euler'",
        lambda args: args.update(sparse_structure_sampler="Euler"),
    ),
    "sampler unknown setting": _description(
        "sparse_structure_sampler: params: unknown key 'guidance'", _sampler(guidance=1)
    ),
    "sampler steps a fraction": _description("params: steps: expected int, got 2.5", _sampler(steps=2.5)),
    "sampler interval of one number": _description(
        "params: cfg_interval: expected 2 values, got [0.5]", _sampler(cfg_interval=[0.5])
    ),
    "sampler interval reversed": _description(
        "cfg_interval must be (low, high) with 0 <= low <= high <= 1, got (1.0, 0.5)",
        _sampler(cfg_interval=[1.0, 0.5]),
    ),
    "sampler rescale_t zero": _description("rescale_t must be positive, got 0.0", _sampler(rescale_t=0.0)),
    "digests are a list": _description(
        "sha256: expected an object, got []", lambda args: args.update(sha256=[])
    ),
    "latents without normalisation": _description(
        "slat_sampler, slat_normalization: expected both",
        lambda args: args["models"].update(slat_flow_model="a", slat_decoder_mesh="b"),
    ),
    "normalisation of unequal lengths": _description(
        "expected as many means as stds, got 1",
        lambda args: args.update(slat_normalization={"mean": [0.0], "std": []}),
    ),
    # networks
    "network without a name": _checkpoint(
        "flow.json: missing key 'name'", lambda i: i.network(lambda raw: raw.pop("name"))
    ),
    "network unknown": _checkpoint(
        "for the role 'sparse_structure_flow_model', got 'os.system'; correct",
        lambda i: i.network(lambda raw: raw.update(name="os.system")),
    ),
    "network lacks an argument": _checkpoint(
        "flow.json: missing key 'resolution'", lambda i: i.network(lambda raw: raw["args"].pop("resolution"))
    ),
    "network argument unknown": _checkpoint(
        "flow.json: unknown key 'depth'", lambda i: i.network(lambda raw: raw["args"].update(depth=1))
    ),
    "network argument of another type": _checkpoint(
        "flow.json: resolution: expected int, got '2'",
        lambda i: i.network(lambda raw: raw["args"].update(resolution="2")),
    ),
    "network argument refused": _checkpoint(
        "flow.json: model_channels 32 must be divisible by num_heads 3",
        lambda i: i.network(lambda raw: raw["args"].update(num_heads=3)),
    ),
    "network of other sizes": _checkpoint(
        "flow.safetensors: tensor 'pos_emb' has shape (8, 32), expected (27, 32)",
        lambda i: i.network(lambda raw: raw["args"].update(resolution=3)),
    ),
    "weights are a .pt": _checkpoint(
        "flow.pt: expected .safetensors, got a pickle", lambda i: i.weights(b"anything", ".pt")
    ),
    "weights are a .pth": _checkpoint(
        "flow.pth: expected .safetensors, got a pickle", lambda i: i.weights(b"anything", ".pth")
    ),
    "weights are a .bin": _checkpoint(
        "flow.bin: expected .safetensors, got a pickle", lambda i: i.weights(b"anything", ".bin")
    ),
    "weights are a .ckpt": _checkpoint(
        "convert it with: python scripts/convert_checkpoint.py", lambda i: i.weights(b"anything", ".ckpt")
    ),
    "weights missing beside their description": _checkpoint(
        "flow.safetensors: expected weights beside flow.json, found none",
        lambda i: i.weights(b"anything", ".txt"),
    ),
    # pickles
    "pickle with code": _hub(
        "net.pt: expected tensors only, got print, which opening the file would run; refused",
        lambda i: i.pickle({"a": TENSOR, "b": _Code()}),
    ),
    "pickle of a module": _hub(
        "net.pt: expected tensors only, got torch.nn.modules.linear.Linear",
        lambda i: i.pickle(torch.nn.Linear(1, 1)),
    ),
    "pickle of a list": _hub(
        "net.pt: expected a dictionary of tensors, got list", lambda i: i.pickle([TENSOR])
    ),
    "pickle empty": _hub(
        "net.pt: expected a dictionary of tensors, got an empty one", lambda i: i.pickle({})
    ),
    "pickle with settings among tensors": _hub(
        "net.pt: expected a tensor for each name, got float for 'lr'",
        lambda i: i.pickle({"a": TENSOR, "lr": 0.1}),
    ),
    "pickle with two state dicts": _hub(
        "expected one state dict, found model, teacher; choose one with --key",
        lambda i: i.pickle({"model": {"a": TENSOR}, "teacher": {"a": TENSOR}}),
    ),
    "pickle without the key": _hub(
        "--key: expected one of model, got 'ema'", lambda i: i.pickle({"model": {"a": TENSOR}}, key="ema")
    ),
    "pickle of another network": _hub(
        "tensor 'cls_token' of shape (1, 1, 1024) is missing",
        lambda i: i.pickle({"a": TENSOR}, like=find_network("image_cond_model")),
    ),
    "pickle too large for half": _hub(
        "tensor 'a': largest magnitude 1e+09 is out of range for torch.float16",
        lambda i: i.pickle({"a": torch.tensor([1e9])}, dtype=torch.float16),
    ),
    "pickle to a place that is none": _hub(
        "net.pt/net.safetensors: cannot be written (",
        lambda i: i.pickle({"a": TENSOR}, target=i.root / "net.pt" / "net.safetensors"),
    ),
    "pickle truncated": _hub(
        "a.pt: not a readable pickle",
        lambda i: ((i.root / "a.pt").write_bytes(b"PK\x03\x04"), convert(i.root / "a.pt")),
    ),
    "pickle missing": _hub(
        "a.pt: expected a pickle (.pt, .pth, .bin, .ckpt), found no such file",
        lambda i: convert(i.root / "a.pt"),
    ),
    # the hub
    "repository unknown": _hub(
        "owner/unknown: pipeline.json: expected a public repository or permission to read it",
        lambda i: i.fetch("owner/unknown"),
    ),
    "revision unknown": _hub(
        "owner/toy: pipeline.json: no such revision 'v9'", lambda i: i.fetch("owner/toy", "v9")
    ),
    "repository without description": _hub(
        "owner/toy: pipeline.json: expected the file in the repository, found none",
        lambda i: i.fetch("owner/toy", change={"owner/toy/pipeline.json": None}),
    ),
    "repository with another description": _hub(
        "pipeline.json: expected args.models with a stem for each role",
        lambda i: i.fetch("owner/toy", change={"owner/toy/pipeline.json": b"[]"}),
    ),
    "checkpoint path mistyped": _hub(
        "scenegen-smal/pipeline.json: expected a checkpoint folder with pipeline.json, found none",
        lambda i: resolve_checkpoint("checkpoints/scenegen-smal"),
    ),
    "checkpoint is a file": _hub(
        "scene.jpg: expected a checkpoint folder, got a file",
        lambda i: resolve_checkpoint(i.scene / "scene.jpg"),
    ),
    "checkpoint not downloaded": _hub(
        "about 3.7 GB): scenegen download --only scenegen; the bundled",
        lambda i: resolve_checkpoint("checkpoints/scenegen"),
    ),
    "upload of no checkpoint": _hub(
        "pipeline.json: no such configuration file", lambda i: push_to_hub(i.scene, "owner/mine")
    ),
    "upload of a checkpoint with a pickle": _hub(
        "a.pt: a pickle is not uploaded",
        lambda i: ((i.checkpoint / "a.pt").write_bytes(b""), push_to_hub(i.checkpoint, "owner/mine")),
    ),
    "upload of altered weights": _hub(
        "decoder.safetensors: expected the sha256 in pipeline.json, got another",
        lambda i: (
            shutil.copy(i.checkpoint / "ckpts/flow.safetensors", i.checkpoint / "ckpts/decoder.safetensors"),
            push_to_hub(i.checkpoint, "owner/mine"),
        ),
    ),
    # images
    "cut-out cut short": _scene(
        "0.png: expected a whole image, reading stopped",
        lambda i: i.image("0.png", (i.scene / "0.png").read_bytes()[:60]),
    ),
    "photo is HTML": _scene(
        "scene.jpg: expected a JPEG or PNG image, got other content",
        lambda i: i.image("scene.jpg", b"<!doctype html>"),
    ),
    "photo of one pixel": _scene(
        "scene.jpg: expected a photo of at least 16 px a side",
        lambda i: i.image("scene.jpg", _grey(9, (1, 1))),
    ),
    "photo a thin strip": _scene(
        "scene.jpg: expected a photo of at least 16 px a side and at most 8:1, got 400x20",
        lambda i: i.image("scene.jpg", _grey(9, (400, 20))),
    ),
    "mask of another size": _scene(
        "1_mask.png: expected a mask of 48x36 like the photo, got 36x48",
        lambda i: i.image("1_mask.png", _grey(255, (36, 48))),
    ),
    "mask all black": _scene(
        "1_mask.png: expected pixels above 0 on the object, the mask is empty",
        lambda i: i.image("1_mask.png", _grey(0)),
    ),
    "mask with 16 bits": _scene(
        "1_mask.png: expected 8 bits a channel, got a 16-bit image",
        lambda i: i.image("1_mask.png", Image.fromarray(np.ones((36, 48), np.uint16))),
    ),
    "cut-out fully transparent": _scene(
        "1.png: expected opaque pixels (alpha above 204), found none",
        lambda i: i.image("1.png", Image.new("RGBA", (9, 9))),
    ),
    "cut-out opaque and of another size": _scene(
        "1.png: expected a cut-out with transparency (RGBA), got L without",
        lambda i: i.image("1.png", _grey(9, (9, 9))),
    ),
    "two photos": _scene(
        "expected one photo, found scene.jpg and scene.png", lambda i: i.image("scene.png", _grey(9))
    ),
    "mask with a name": _scene(
        "chair_mask.png: expected a mask named <number>_mask.png",
        lambda i: i.image("chair_mask.png", _grey(9)),
    ),
    "two masks of one object": _scene(
        "01_mask.png: expected one file for object 1, found 1_mask.png too",
        lambda i: i.image("01_mask.png", _grey(9)),
    ),
    # label images
    "labels of another size": _scene(
        "labels.png: expected labels of 48x36 like the photo, got 9x9", lambda i: i.labels(_grey(1, (9, 9)))
    ),
    "labels all zero": _scene(
        "labels.png: expected a label above 0 for each object, all pixels are 0", lambda i: i.labels(_grey(0))
    ),
    "labels in the colours of a photo": _scene(
        "labels.png: expected areas of one value or colour per object, got 1728 values",
        lambda i: i.labels(
            Image.frombytes("RGB", PHOTO_SIZE, b"".join(k.to_bytes(3, "big") for k in range(1, 1729)))
        ),
    ),
    "labels smoothed": _scene(
        "labels.png: expected areas of one value or colour per object, got 256 values",
        lambda i: i.labels(Image.fromarray(np.arange(48 * 36).reshape(36, 48).astype(np.uint8))),
    ),
    "labels truncated": _scene(
        "labels.png: expected a JPEG or PNG image, got other content",
        lambda i: i.labels(b"\x89PNG\r\n\x1a\n"),
    ),
    "labels beside masks": _scene(
        "labels.png: expected either labels.png or <k>_mask.png files, found both",
        lambda i: i.image("labels.png", _grey(1)),
    ),
    # folders
    "input folder missing": _scene(
        "gone: expected a folder, found nothing", lambda i: find_scene_folders(i.root / "gone")
    ),
    "input folder empty": _scene(
        "expected folders with scene.jpg and 0.png, 0_mask.png, ..., found no folder",
        lambda i: find_scene_folders(i.root),
    ),
    "input is a file": _scene(
        "scene.jpg: expected a folder, found a file", lambda i: find_scene_folders(i.scene / "scene.jpg")
    ),
    # poses and scenes for evaluation
    "poses not JSON": _evaluation("poses.json: expected a JSON pose file", lambda i: i.poses("{")),
    "poses a list": _evaluation(
        "poses.json: expected objects with id, translation, rotation_wxyz and scale",
        lambda i: i.poses([POSE]),
    ),
    "poses without a scale": _evaluation(
        "got KeyError: 'scale'; write the pose file again",
        lambda i: i.poses({"objects": [{k: v for k, v in POSE.items() if k != "scale"}]}),
    ),
    "pose with a zero quaternion": _evaluation(
        "object 0 has a pose that is not finite, a zero quaternion or a scale <= 0",
        lambda i: i.poses({"objects": [POSE | {"rotation_wxyz": [0] * 4}]}),
    ),
    "pose with three quaternion parts": _evaluation(
        "[translation, quaternion wxyz, scale], got shape (7,)",
        lambda i: i.poses({"objects": [POSE | {"rotation_wxyz": [0] * 3}]}),
    ),
    "pose with a negative scale": _evaluation(
        "object 0 has a pose that is not finite, a zero quaternion or a scale <= 0",
        lambda i: i.poses({"objects": [POSE | {"scale": -1}]}),
    ),
    "pose not finite": _evaluation(
        "poses.json: expected a JSON pose file, got not valid JSON: expected a finite number, got NaN",
        lambda i: i.poses(
            '{"objects": [{"id": 0, "translation": [NaN, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1}]}'
        ),
    ),
    "pose as text": _evaluation(
        "poses.json: expected objects with id, translation, rotation_wxyz and scale",
        lambda i: i.poses({"objects": [POSE | {"translation": "here"}]}),
    ),
    "poses twice for one object": _evaluation(
        "expected different ids and a pose of the query object 0, got ids [0, 0]",
        lambda i: i.poses({"objects": [POSE, POSE]}),
    ),
    "poses without the query": _evaluation(
        "a pose of the query object 3, got ids [0]", lambda i: i.poses({"query": 3, "objects": [POSE]})
    ),
    "symmetry unknown": _evaluation(
        "object 0 has symmetry -2, known are 0 (continuous), 1, 2, 4",
        lambda i: i.poses({"objects": [POSE | {"symmetry": -2}]}),
    ),
    "scenes folder missing": _evaluation(
        "gone: expected a folder of scenes, got no such folder", lambda i: find_scene_files(i.root / "gone")
    ),
    "scene GLB is text": Case(
        lambda i: read_glb(i.scene / "scene.jpg"), "scene.jpg: expected a GLB file, got 848 bytes", GlbError
    ),
    # command lines
    "inference: steps zero": _command(
        "argument --steps: expected a whole number above 0, got '0'",
        lambda i: i.run(inference, "--steps", "0"),
    ),
    "inference: steps a word": _command(
        "argument --steps: expected a whole number above 0, got 'many'",
        lambda i: i.run(inference, "--steps", "many"),
    ),
    "inference: seed a fraction": _command(
        "argument --seed: expected a whole number, got '1.5'", lambda i: i.run(inference, "--seed", "1.5")
    ),
    "inference: seed of more than 64 bits": _command(
        "argument --seed: expected a number from -2^63 to 2^64 - 1, got '18446744073709551616'",
        lambda i: i.run(inference, "--seed", str(2**64)),
    ),
    "inference: port unknown to TCP": _command(
        "argument --port: expected a whole number from 1 to 65535, got '65536'",
        lambda i: i.run(inference, "--port", "65536"),
    ),
    "inference: output is a file": _command(
        "scene.jpg: expected a folder for the results, ",
        lambda i: i.run(inference, "--input", i.scene, "--output", i.scene / "scene.jpg"),
    ),
    "inference: format unknown": _command(
        "argument --formats: unknown format 'dwg'; known: ",
        lambda i: i.run(inference, "--formats", "glb,dwg"),
    ),
    "inference: device unknown": _command(
        "argument --device: expected cpu, cuda or cuda:<n>, got 'tpu7'",
        lambda i: i.run(inference, "--device", "tpu7"),
    ),
    "inference: device not there": _command(
        "argument --device: expected a device of this machine, got 'cuda:99'; use cpu",
        lambda i: i.run(inference, "--device", "cuda:99"),
    ),
    "inference: dtype unknown": _command(
        "argument --dtype: invalid choice: 'int8'", lambda i: i.run(inference, "--dtype", "int8")
    ),
    "inference: flag unknown": _command(
        "unrecognized arguments: --stepz 3", lambda i: i.run(inference, "--stepz", "3")
    ),
    "inference: input missing": _command(
        "gone: expected a folder, found nothing", lambda i: i.run(inference, "--input", i.root / "gone")
    ),
    "inference: checkpoint missing": _command(
        "gone/pipeline.json: expected a checkpoint folder with pipeline.json, found none",
        lambda i: i.run(
            inference, "--input", i.scene, "--output", i.root / "out", "--checkpoint", i.root / "gone"
        ),
    ),
    "evaluate: truth not given": _command(
        "the following arguments are required: --truth", lambda i: i.run(evaluate, "--prediction", i.root)
    ),
    "evaluate: points below one": _command(
        "argument --num-points: expected a whole number above 0, got '0'",
        lambda i: i.run(evaluate, "--prediction", i.root, "--truth", i.root, "--num-points", "0"),
    ),
    "evaluate: folder missing": _command(
        "gone: expected a folder of scenes, got no such folder",
        lambda i: i.run(evaluate, "--prediction", i.root / "gone", "--truth", i.root),
    ),
    "evaluate: table without report": _command(
        "--csv needs --output", lambda i: i.run(evaluate, "--prediction", i.root, "--truth", i.root, "--csv")
    ),
    "download: release unknown": _command(
        "--only: unknown release 'scenegne'; known: scenegen, vggt, dinov2, sam2, trellis",
        lambda i: i.run(download_checkpoints, "--only", "scenegne"),
    ),
    "download: endpoint no URL": _command(
        "--endpoint: expected a URL such as https://huggingface.co, got 'mirror'",
        lambda i: i.run(download_checkpoints, "--endpoint", "mirror"),
    ),
    "download: list missing": _command(
        "no.json: no such configuration file",
        lambda i: i.run(download_checkpoints, "--manifest", i.root / "no.json"),
    ),
    "convert: network unknown": _command(
        "--like: expected a .json that exists, a role (sparse_structure_flow_model, ",
        lambda i: i.run(convert_checkpoint, "a.pt", "--like", "dino"),
    ),
    "convert: safetensors": _command(
        "a.safetensors: expected a pickle, got safetensors, which need no conversion",
        lambda i: i.run(convert_checkpoint, "a.safetensors"),
    ),
    # experiments
    "experiment missing": Case(
        lambda i: load_experiment(i.root / "no.json"), "no.json: no such configuration file", ConfigError
    ),
    "experiment without objective": Case(
        lambda i: ((i.root / "e.json").write_text("{}"), load_experiment(i.root / "e.json")),
        "e.json: missing key 'objective'",
        ConfigError,
    ),
}


@pytest.fixture
def inputs(tmp_path, shared_checkpoint, write_scene, monkeypatch, capsys, caplog) -> Iterator[Inputs]:
    """Good inputs; the hub answers only when a case asks it."""
    monkeypatch.setenv("no_proxy", "*")
    root, checkpoint = tmp_path / "work", tmp_path / "toy"
    root.mkdir()
    shutil.copytree(shared_checkpoint, checkpoint)
    scene = write_scene(tmp_path / "room", 2)

    def run(command: Any, *arguments: Any) -> None:
        try:
            status = command.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = exit_.code
        assert status == 2
        logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        raise CommandFault(logged[-1] if logged else capsys.readouterr().err.strip().splitlines()[-1])

    files = {
        f"owner/toy/{path.relative_to(checkpoint)}": path.read_bytes() for path in checkpoint.rglob("*.json")
    }
    with Hub(files).serve() as hub:
        yield Inputs(root, checkpoint, scene, hub, run)


@pytest.mark.parametrize("name", CASES)
def test_malformed_input_gives_one_line(inputs, name):
    case = CASES[name]
    with pytest.raises(case.error) as error:
        case.spoil(inputs)
    message = str(error.value)
    assert case.says in message and "\n" not in message


def test_there_are_enough_cases():
    assert len(CASES) >= 60
