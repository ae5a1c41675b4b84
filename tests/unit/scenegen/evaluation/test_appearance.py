"""Appearance of scenes on disk: pictures, what they are compared with, what is kept, and what is missing."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from scenegen.evaluation import html_page
from scenegen.evaluation.alignment import AlignmentSettings
from scenegen.evaluation.appearance import guess_sources
from scenegen.evaluation.pictures import embeddings
from scenegen.evaluation.pictures.embeddings import NetworkPaths
from scenegen.evaluation.pictures.inception import FidInception
from scenegen.evaluation.pictures.lpips import LpipsAlex
from scenegen.evaluation.records import RecordStore
from scenegen.evaluation.report import build_report
from scenegen.evaluation.runner import plan_evaluation
from scenegen.evaluation.scene import evaluate_scene, fingerprint
from scenegen.evaluation.settings import CORRECTED, PAPER, EvaluationSettings, PaperSettings
from scenegen.evaluation.tables import format_report

SIZE = 48
NONE = AlignmentSettings("none")
CAMERA = {"camera_pos": [0, -4, 1], "camera_rotation": [76, 0, 0], "fov": 0.8, "width": SIZE, "height": SIZE}


@pytest.fixture
def root(tmp_path, write_scene):
    """A data root of two scenes, predicted as they are."""
    (tmp_path / "scene_test_render").mkdir()
    config = {}
    for scene_id in ("s1", "s2"):
        count = 2 if scene_id == "s1" else 3
        write_scene(tmp_path / "scene_test", scene_id, count)
        write_scene(tmp_path / "prediction", scene_id, count)
        config[scene_id] = CAMERA
        folder = tmp_path / "masked_images_test" / scene_id
        folder.mkdir(parents=True)
        photo = Image.new("RGB", (SIZE, SIZE), (90, 60, 30))
        photo.save(folder / "scene.png")
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[10:30, 12:40] = 1
        Image.fromarray(mask).save(folder / "labels.png")
    (tmp_path / "scene_test_render" / "render_cfg.json").write_text(json.dumps(config))
    return tmp_path


def sources_of(root, **networks):
    return guess_sources(root / "scene_test", root / "pictures", None, NetworkPaths(**networks))


def settings_of(sources, **more):
    settings = EvaluationSettings(300, alignment=NONE, paper=PaperSettings(NONE, NONE), **more)
    return replace(settings, appearance=sources.settings())


def plan_of(root, sources, **more):
    settings = settings_of(sources, **more)
    return plan_evaluation(root / "prediction", root / "scene_test", settings, sources=sources)


def records_of(root, sources, **more):
    plan = plan_of(root, sources, **more)
    return plan, [evaluate_scene(pair, plan.settings, sources) for pair in plan.pairs]


def test_identical_scenes_have_the_best_of_every_figure(root, monkeypatch):
    save_file(LpipsAlex().state_dict(), root / "lpips.safetensors")
    save_file(FidInception().state_dict(), root / "inception.safetensors")
    paths = {"lpips": root / "lpips.safetensors", "inception": root / "inception.safetensors"}
    monkeypatch.setattr(embeddings, "LPIPS_SHA256", NetworkPaths(**paths).digests()["lpips"])
    plan, records = records_of(root, sources_of(root, **paths))
    for record in records:
        assert not record["warnings"]
        for protocol in (PAPER, CORRECTED):
            figures = record["protocols"][protocol]["metrics"]
            assert figures["render_psnr"] == float("inf") and figures["render_lpips"] == 0
            assert figures["render_ssim"] == pytest.approx(1)
            assert figures["scene_psnr"] < 40, "the photo is another picture"
    report = build_report(records, plan.settings, plan.scenes, {"prediction": "p", "truth": "t"})
    for protocol in (PAPER, CORRECTED):
        summary = report["protocols"][protocol]["summary"]["all"]
        assert summary["render_fid"]["mean"] == pytest.approx(0, abs=1e-6)
        assert summary["scene_fid"]["mean"] > 0 and "render_kid" in summary
        assert summary["render_psnr"]["mean"] == float("inf")
    text = format_report(report)
    assert re.search(r"render_psnr +inf", text)
    assert "clip_similarity: no weights; give --clip" in text


def test_missing_prediction_is_compared_as_an_empty_picture(root):
    (root / "prediction" / "s2.glb").unlink()
    _, (_, missing) = records_of(root, sources_of(root))
    assert "render_psnr" not in missing["protocols"][PAPER]["metrics"]
    worst = missing["protocols"][CORRECTED]["penalties"]
    assert 0 < worst["render_psnr"] < 30 and 0 < worst["render_ssim"] < 1 and "scene_ssim" in worst


def test_the_prediction_is_moved_with_the_alignment_of_its_scene(root, write_scene):
    moved = np.eye(4)
    moved[:3, 3] = (0.4, 0, 0.3)  # of files; by the corrected protocol both are centred
    write_scene(root / "prediction", "s1", 2, moved=moved)
    _, (record, _) = records_of(root, sources_of(root))
    assert record["protocols"][CORRECTED]["metrics"]["render_psnr"] > 45
    assert record["protocols"][PAPER]["metrics"]["render_psnr"] < 30


def test_pictures_are_kept_under_what_they_depend_on(root, write_scene):
    sources = sources_of(root)
    records_of(root, sources)
    first = set((root / "pictures").iterdir())
    times = {path: path.stat().st_mtime_ns for path in first}
    records_of(root, sources)
    assert {path: path.stat().st_mtime_ns for path in (root / "pictures").iterdir()} == times
    write_scene(root / "prediction", "s1", 2, yaws=(0, 30))
    records_of(root, sources)
    assert len(set((root / "pictures").iterdir()) - first) == 1 + 1, "one for each protocol's place"
    _, right = records_of(root, sources)
    for path in (root / "pictures").iterdir():
        path.write_bytes(b"half a picture")
    _, again = records_of(root, sources)
    for one, other in zip(right, again, strict=True):
        assert one["protocols"][CORRECTED]["metrics"] == other["protocols"][CORRECTED]["metrics"]


def test_cameras_and_photos_belong_to_the_fingerprint(root):
    sources = sources_of(root)
    plan = plan_of(root, sources)
    before = fingerprint(plan.pairs[0], plan.settings, sources)
    Image.new("RGB", (SIZE, SIZE)).save(root / "masked_images_test" / "s1" / "scene.png")
    assert fingerprint(plan.pairs[0], plan.settings, sources) != before
    assert fingerprint(plan.pairs[0], replace(plan.settings, appearance=None)) != before


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no camera", "expected the camera of 's1'"),
        ("other shape", "in the shape of the true picture"),
        ("no photo", "s1"),
    ],
)
def test_a_scene_whose_pictures_cannot_be_compared_is_told_and_its_geometry_counts(root, fault, message):
    config = root / "scene_test_render" / "render_cfg.json"
    if fault == "no camera":
        config.write_text(json.dumps({"s2": CAMERA}))
    elif fault == "other shape":
        config.write_text(json.dumps({"s1": CAMERA | {"width": 3 * SIZE}, "s2": CAMERA}))
    else:
        (root / "masked_images_test" / "s1" / "scene.png").unlink()
    sources = sources_of(root)
    sources_settings = sources.settings()
    assert sources_settings.with_photo
    plan = plan_of(root, sources)
    record = evaluate_scene(plan.pairs[0], plan.settings, sources)
    (line,) = [line for line in record["warnings"] if message in line]
    assert "\n" not in line and record["status"] == "evaluated"
    figures = record["protocols"][CORRECTED]["metrics"]
    assert figures["scene_fscore"] == pytest.approx(1) and "render_psnr" not in figures


def test_photo_of_another_size_is_resized(root):
    Image.new("RGB", (2 * SIZE, 2 * SIZE), (90, 60, 30)).save(
        root / "masked_images_test" / "s1" / "scene.png"
    )
    mask = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    mask[20:60, 24:80] = 1
    Image.fromarray(mask).save(root / "masked_images_test" / "s1" / "labels.png")
    sources = sources_of(root)
    plan = plan_of(root, sources)
    first, second = (evaluate_scene(pair, plan.settings, sources) for pair in plan.pairs)
    assert not first["warnings"] and "scene_psnr" in first["protocols"][CORRECTED]["metrics"]


def test_page_shows_every_scene_and_opens_without_a_server(root, monkeypatch):
    monkeypatch.setattr(html_page, "FRAME_SIZE", 24)
    (root / "prediction" / "s2.glb").unlink()
    sources = sources_of(root)
    plan, records = records_of(root, sources)
    inputs = {
        "prediction": str(root / "prediction"),
        "truth": str(root / "scene_test"),
        "images": str(sources.images),
    }
    report = build_report(records, plan.settings, plan.scenes, inputs)
    page = html_page.write_page(root / "page", report, workers=1)
    text = page.read_text()
    assert "http" not in text.replace("http-equiv", ""), "nothing is fetched"
    data = json.loads(text.partition("const data = ")[2].partition(";\n")[0].replace("<\\/", "</"))
    assert [scene["id"] for scene in data["scenes"]] == ["s1", "s2"]
    shown = data["scenes"][0]["pictures"]
    assert set(shown) == {"photo", "truth", "prediction", "truth_turntable", "prediction_turntable"}
    for name in shown.values():
        Image.open(root / "page" / name).verify()
    assert "prediction" not in data["scenes"][1]["pictures"] and "no prediction" in data["scenes"][1]["note"]
    assert "corrected.scene_cd" in data["lower"] and "corrected.scene_fscore" not in data["lower"]


def test_store_gives_infinite_figures_back(root, tmp_path):
    _, (record, _) = records_of(root, sources_of(root))
    with RecordStore(tmp_path / "r.jsonl") as store:
        store.add("key", record)
    with RecordStore(tmp_path / "r.jsonl") as store:
        assert store.get("key") == record
