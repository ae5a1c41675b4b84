"""Which segmenter a name, a folder, a file or nothing gives."""

import numpy as np
import pytest
from PIL import Image

from scenegen.segmentation import DEFAULT_SAM2, SegmenterUnavailable, load_segmenter
from scenegen.segmentation.loading import resolve_sam2
from trellis_modules.checkpoint import CheckpointError


def test_a_folder_and_a_file_in_it_give_sam2(toy_checkpoint):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (36, 48, 3), dtype=np.uint8))
    boxes = np.array([[2, 3, 20, 30]])
    by_folder, by_file = load_segmenter(toy_checkpoint), load_segmenter(toy_checkpoint / "model.safetensors")
    assert by_folder.description == f"SAM 2 ({toy_checkpoint})" == by_file.description
    np.testing.assert_array_equal(by_folder.segment_boxes(photo, boxes), by_file.segment_boxes(photo, boxes))


@pytest.mark.parametrize("size", ["tiny", "small", "base-plus", "large"])
@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
def test_published_names_are_taken_from_the_disk_or_the_hub(size, version, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"{version}-hiera-{size}"
    if f"checkpoints/{name}" != DEFAULT_SAM2:  # that one is fetched by `scenegen download`
        assert resolve_sam2(name) == f"facebook/{name}"
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert str(resolve_sam2(name)) == f"checkpoints/{name}"


def test_repositories_and_folders_stay_what_they_are(tmp_path):
    for given in ("owner/name", str(tmp_path), DEFAULT_SAM2):
        assert resolve_sam2(given) == given


def test_the_default_says_how_to_fetch_it(library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SegmenterUnavailable, match="scenegen download --only sam2"):
        load_segmenter("sam2.1-hiera-large")


def test_names_that_were_not_published_are_refused():
    with pytest.raises(SegmenterUnavailable, match="with a size of tiny, small, base-plus, large; correct"):
        load_segmenter("sam2.1-hiera-huge")


def test_a_published_pickle_is_refused_with_the_command_that_converts_it(tmp_path):
    pickle = tmp_path / "sam2_hiera_large.pt"
    pickle.write_bytes(b"not opened")
    with pytest.raises(CheckpointError) as error:
        load_segmenter(pickle)
    assert str(error.value) == (
        f"{pickle}: expected .safetensors, got a pickle, which can run code when it is opened; convert it "
        f"with: python scripts/convert_checkpoint.py {pickle} --like sam2-hiera-large"
    )


def test_a_cutout_model_is_not_for_sam2(tmp_path):
    with pytest.raises(SegmenterUnavailable, match="net.onnx: a cut-out model starts GrabCut, while sam2.1"):
        load_segmenter("sam2.1-hiera-large", cutout_model=tmp_path / "net.onnx")
