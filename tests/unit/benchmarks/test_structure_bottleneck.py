"""The table of what bounds shapes: every variant can be built, and records become rows of a page."""

import json

import pytest
import torch

from benchmarks.structure_bottleneck import main
from benchmarks.structure_bottleneck_data import POINTS_GRID, Bank
from benchmarks.structure_bottleneck_table import BEGIN, END, table, write_table
from benchmarks.structure_bottleneck_variants import GRID, VARIANTS, OracleEncoder, Run
from scenegen.synthesis.sources.batch import ObjectLatentBatch


def bank(pictures: int = 3) -> Bank:
    shades = torch.arange(pictures, dtype=torch.uint8).view(-1, 1, 1, 1)
    batch = ObjectLatentBatch(
        asset_image=shades.expand(-1, 3, 224, 224),
        mask_image=torch.full((pictures, 1, 224, 224), 255, dtype=torch.uint8),
        object_points=torch.rand(pictures, 4, POINTS_GRID, POINTS_GRID).half(),
        visible=torch.ones(pictures, dtype=torch.bool),
        x_0=torch.randn(2, 16, 8, 8, 8).half(),
    )
    return Bank(batch, torch.tensor([0, 1, 1][:pictures]), 1.0)


def mark(validation: float, **more: float) -> dict[str, float]:
    return {
        f"{split}_{name}": validation for split in ("train", "validation") for name in ("fscore", "iou")
    } | more


@pytest.fixture
def records(tmp_path):
    """A folder of three records."""
    known = {
        "autoencoder": {"text": "autoencoder", "parameters": {}, "marks": [mark(0.9)]},
        "base": {
            "text": "base", "parameters": {"flow": 5_000_000, "image_encoder": 4_800_000},
            "marks": [mark(0.5, steps=10, seconds=3.2, mse=0.71), mark(0.6, steps=20, seconds=6.0, mse=0.61)],
        },
        "flow_4x": {"text": "large", "parameters": {}, "marks": [mark(0.7, steps=10, seconds=9.0)]},
        "drawing": {"pictures": 3, "seconds": 1.0},
    }  # fmt: skip
    for name, record in known.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    return tmp_path


def test_references_come_first_and_variants_by_their_score(records):
    rows = table([records]).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["autoencoder", "large", "base", "base"]
    assert rows[2].startswith("| base | 5.0, 4.8 | 10 | 3 | 0.710 |  | 0.500 | 0.500 |  |  | 0.500 | 0.500 |")


def test_a_page_keeps_what_is_around_the_table(records, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["table", str(records), "--readme", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| large |" in text and "| large |" in capsys.readouterr().out
    page.write_text("no markers")
    with pytest.raises(ValueError, match="expected the lines .*begin"):
        write_table("x", page)


def test_pictures_of_the_bank_come_with_the_latents_of_their_shapes():
    known = bank()
    batch = known.draw(20, torch.Generator().manual_seed(0))
    assert batch.asset_image.amax() <= 1 and batch.mask_image.min() == 1 and len(batch.visible) == 20
    rows = (batch.asset_image[:, 0, 0, 0] * 255).round().long()
    assert len(rows.unique()) == 3
    torch.testing.assert_close(batch.x_0, known.batch.x_0[known.shape[rows]].float())


def test_the_oracle_sees_points_where_the_object_is():
    torch.manual_seed(0)
    points = torch.zeros(1, 4, POINTS_GRID, POINTS_GRID)
    points[0, :, 2, 4] = torch.tensor([0.1, 0.2, 0.3, 1.0])
    encoder = OracleEncoder()
    changed = (encoder(points) - encoder(torch.zeros_like(points))).abs().sum(-1)[0] > 0
    assert changed.nonzero().flatten().tolist() == [1 * GRID + 2]


def test_variants_are_trained_as_far_as_the_time_goes():
    run = Run(VARIANTS["oracle_tokens"], bank(), {}, torch.nn.Identity(), 1, None)
    result = run.train(1, limit_s=60.0)
    assert result["marks"][0]["steps"] == 1 and result["marks"][0]["mse"] > 0
    assert result["parameters"]["flow"] > 4e6
    late = run.train(1, limit_s=-1.0)["marks"]
    assert len(late) == 1 and late[0]["steps"] == 0


def test_a_variant_that_starts_from_features_needs_them():
    with pytest.raises(ValueError, match="ImageNet.*: expected --image-features, got none"):
        Run(VARIANTS["features"], bank(), {}, torch.nn.Identity(), 1, None)
