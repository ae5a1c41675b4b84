"""How objects share the triangles of a scene."""

import pytest
import torch

from scenegen.pipelines.drafts import ObjectDraft
from scenegen.pipelines.face_budget import share_faces, structure_area


def _draft(edge: int, scale: float, hollow: bool = False) -> ObjectDraft:
    logits = torch.full((16, 16, 16), -1.0)
    logits[1 : 1 + edge, 1 : 1 + edge, 1 : 1 + edge] = 1.0
    if hollow:
        logits[2:edge, 2:edge, 2:edge] = -1.0
    return ObjectDraft(logits, torch.tensor([0.0, 0, 0, 1, 0, 0, 0, scale]))


def test_area_is_that_of_the_outside():
    assert structure_area(_draft(4, 1.0).logits) == structure_area(_draft(4, 1.0, hollow=True).logits) == 96


def test_scene_is_shared_by_area_as_placed():
    drafts = [_draft(4, 1.0), _draft(4, 2.0), _draft(8, 1.0)]  # areas 1 : 4 : 4
    share_faces(drafts, None, 9001)
    assert [draft.num_faces for draft in drafts] == [1000, 4001, 4000]


@pytest.mark.parametrize("faces", [None, 500])
def test_each_object_gets_the_same_where_that_is_asked(faces):
    drafts = [_draft(4, 1.0), _draft(8, 1.0)]
    share_faces(drafts, faces, None)
    assert [draft.num_faces for draft in drafts] == [faces, faces]
