"""What the demo does without a page: names, limits, and the order of what needs a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from scenegen.demo.object_list import objects_made_of
from scenegen.demo.options import DemoOptions
from scenegen.demo.prompts import CurrentPicture
from scenegen.demo.service import DemoService
from scenegen.demo.session import MadeScene
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import LabelImage
from scenegen.pipelines.result import GeneratedObject, SceneResult
from scenegen.segmentation.prompts import ObjectPrompt
from trellis_modules.checkpoint import CheckpointError


@pytest.fixture
def service(tmp_path):
    made = DemoService(DemoOptions("nowhere", max_objects=3), tmp_path)
    yield made
    made.close()


@pytest.fixture
def session(service):
    made = service.sessions.get("one")
    made.current = CurrentPicture(Image.new("RGB", (60, 40)))
    return made


def mark(session, count):
    labels = np.zeros((40, 60), np.int32)
    for index in range(count):
        labels[5:20, 20 * index : 20 * index + 15] = index + 1
    session.current = CurrentPicture(Image.new("RGB", (60, 40)))
    session.current.use_labels(LabelImage(labels, tuple(range(1, count + 1)), "colours"), 3)


def test_objects_are_found_by_their_names(service, session, monkeypatch):
    asked = []

    def find(photo, names, device):
        asked.append((photo.size, names, device))
        return [ObjectPrompt((i, i, 20, 20), name=name) for i, name in enumerate(names)]

    monkeypatch.setattr(service.models, "find_by_names", find)
    assert service.find_by_names(session, "chair, red lamp,") == 2
    assert asked == [((60, 40), ["chair", "red lamp"], torch.device("cpu"))]
    assert session.current.names == ("chair", "red lamp")
    with pytest.raises(SceneInputError, match="at most 3 objects, got 4"):
        service.find_by_names(session, "sofa, rug")
    assert len(session.current.objects) == 2, "none of them was added"
    monkeypatch.setattr(service.models, "find_by_names", lambda *arguments: [])
    with pytest.raises(SceneInputError, match="expected objects called 'piano', found none"):
        service.find_by_names(session, "piano")


def test_without_a_detector_that_is_said(service):
    with pytest.raises(CheckpointError, match="start the demo with --text-model, or draw boxes"):
        service.models.find_by_names(Image.new("RGB", (9, 9)), ["chair"], torch.device("cpu"))


def test_the_cache_keeps_names_query_and_labels(service, session):
    mark(session, 2)
    session.current.rename(1, "sofa")
    session.current.choose_query(2)
    pair = service.add_to_cache(session)
    assert (pair.names, pair.query) == (("sofa", ""), 1) and pair.picture.parent == session.folder
    images = pair.scene_images()
    assert len(images.masks) == 2 and images.masks[1][10, 25] and not images.masks[0][10, 25]
    mark(session, 2)
    service._name_as_before(session, session.current)
    assert session.current.names == ("sofa", "")


def test_objects_that_are_marked_one_by_one_get_the_names_of_their_places(service, session):
    mark(session, 2)
    for number, name in enumerate(("sofa", "stool"), start=1):
        session.current.rename(number, name)
    service.add_to_cache(session)
    for count in (1, 2):
        mark(session, count)
        session.current.rename(1, "sofa")
        service._name_as_before(session, session.current)
        assert session.current.names == ("sofa", "stool")[:count]


def test_the_cache_has_an_end(service, session, monkeypatch):
    monkeypatch.setattr("scenegen.demo.service.MAX_VIEWS", 2)
    mark(session, 1)
    for _ in range(2):
        service.add_to_cache(session)
    with pytest.raises(SceneInputError, match="at most 2 pictures in the cache"):
        service.add_to_cache(session)
    service.delete_pair(session, 0)
    assert len(session.pairs) == 1
    for index in (None, 1, -1):
        with pytest.raises(SceneInputError, match="none is selected"):
            service.delete_pair(session, index)


@pytest.mark.parametrize("inside", [True, False])
def test_only_uploads_are_opened_for_callers(service, tmp_path, inside):
    path = (tmp_path if inside else tmp_path.parent) / "x.png"
    assert service.is_uploaded(path) is inside
    (tmp_path / "link").symlink_to(tmp_path.parent)
    assert not service.is_uploaded(tmp_path / "link" / "x.png")
    assert not service.is_uploaded(tmp_path / ".." / "x.png")


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="max_objects: expected a number from 1 to 64, got 65"):
        DemoOptions("nowhere", max_objects=65)
    with pytest.raises(ValueError, match="at least one device"):
        DemoOptions("nowhere", devices=())


def test_only_objects_of_the_scene_are_made_anew(service, session):
    """Each button is of an object with a key, wherever it stands in the list meanwhile."""
    mark(session, 2)
    key = session.current.objects[0].key
    with pytest.raises(SceneInputError, match="object 1: expected an object of the scene, which it is not"):
        service.reroll(session, key)
    pair = service.add_to_cache(session)
    poses = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
    items = tuple(GeneratedObject(number, poses, torch.zeros(2, 2, 2), None) for number in (0, 1))
    session.scene = MadeScene(SceneResult(items, 0), session.folder, (), (pair,), 1.0)
    session.current.move(1, 2)
    found = objects_made_of(session.current, session.scene)
    assert {number: item.object_id for number, item in found.items()} == {1: 1, 2: 0}
    mark(session, 2)
    assert not objects_made_of(session.current, session.scene), "another picture"


def test_a_scene_that_was_not_changed_has_nothing_to_undo(service, session):
    with pytest.raises(SceneInputError, match="nothing to undo"):
        service.undo(session)


def test_a_new_mask_takes_nothing_from_other_objects(service, session):
    mark(session, 2)
    pair = service.add_to_cache(session)
    changed = pair.with_mask(0, np.ones((40, 60), bool))
    assert ((changed.labels == 2) == (pair.labels == 2)).all() and (changed.labels > 0).all()
    assert (pair.labels == 1).sum() == 15 * 15, "the pair itself stays"
