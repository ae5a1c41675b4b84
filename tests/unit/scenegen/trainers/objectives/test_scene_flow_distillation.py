"""A scene flow that learns to jump along the samples of another one."""

import pytest
import torch

from scenegen.models.registry import build_model
from scenegen.trainers.objectives.scene_flow_distillation import (
    SceneFlowDistillation,
    SceneFlowDistillationConfig,
    mean_velocities,
)
from tests.unit.scenegen.trainers.objectives.test_scene_flow import ENCODERS, FLOW, scene_batch
from trellis_modules.samplers.flow_euler import sampling_times

CONFIG = {"steps": 2, "teacher_steps": 6, "p_no_scene": 0.0}


@pytest.fixture
def batch():
    return scene_batch()


def build(**changes) -> SceneFlowDistillation:
    torch.manual_seed(0)
    networks = {role: build_model(raw) for role, raw in ENCODERS.items()}
    teacher = build_model(FLOW)
    for parameter in teacher.parameters():  # a new flow tells nothing
        torch.nn.init.normal_(parameter, std=0.1)
    flow = build_model(FLOW)
    flow.load_state_dict(teacher.state_dict())
    config = SceneFlowDistillationConfig(**{**CONFIG, **changes})
    objective = SceneFlowDistillation(flow, teacher, config=config, **networks)
    for name in ("teacher", *networks):
        getattr(objective, name).requires_grad_(False)
    return objective.train()


def loss(objective, batch, seed=0, **options):
    return objective(batch, torch.Generator().manual_seed(seed), **options)


def test_steps_of_the_mean_velocities_pass_every_state():
    states, times = (
        list(torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))),
        sampling_times(4, 3.0),
    )
    x = states[0]
    for number, velocity in enumerate(mean_velocities(states, times)):
        x = x + (times[number + 1] - times[number]) * velocity
        torch.testing.assert_close(x, states[number + 1])


def test_a_teacher_of_the_same_steps_without_guidance_has_nothing_to_teach(batch):
    same, _ = loss(build(teacher_steps=2, cfg_strength=0.0), batch)
    guided, _ = loss(build(teacher_steps=2), batch)
    longer, _ = loss(build(cfg_strength=0.0), batch)
    assert guided > 1e-4 and longer > 1e-4
    objective = build(teacher_steps=2, cfg_strength=0.0)
    _, logs = loss(objective, batch)
    assert logs["mse"] < 1e-8 and logs["step_0"] < 1e-8 and logs["step_1"] < 1e-8
    assert same < guided and same < longer


def test_the_student_comes_nearer_to_the_teacher_which_stays(batch):
    objective = build()
    before = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert len(trained) == len(list(objective.flow.parameters()))
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0)
    first = loss(objective, batch)[1]["mse"]
    for _ in range(30):
        optimizer.zero_grad()
        loss(objective, batch)[0].backward()
        optimizer.step()
    assert loss(objective, batch)[1]["mse"] < first / 2
    assert all(torch.equal(value, before[name]) for name, value in objective.teacher.state_dict().items())


def test_the_teacher_samples_as_in_use(batch):
    objective = build()
    assert objective.flow.training and not objective.teacher.training
    poses = objective._teacher_states(
        torch.randn(6, 4, 2, 2, 2), *objective._condition(batch), 3, torch.arange(6) % 3 == 0
    )[1]
    assert torch.equal(poses[::3], batch.poses[:, 0])  # the identity, which only networks in use give exactly


def test_assets_alone_are_taught_by_assets_alone(batch):
    objective = build(teacher_steps=2, cfg_strength=0.0)
    assert loss(objective, batch, alone=True)[1]["mse"] < 1e-8
    assert objective.decide(torch.Generator().manual_seed(0)) == (False,)
    assert build(p_no_scene=1.0).decide(torch.Generator().manual_seed(0)) == (True,)


def test_shown_samples_take_the_steps_of_the_student(batch):
    objective = build().eval()
    calls = []
    objective.flow.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[1]))
    first, second = objective.samples(batch, torch.Generator().manual_seed(0), None)
    assert [float(t[0]) / 1000 for t in calls] == pytest.approx(sampling_times(2, 3.0)[:-1])
    assert first.latents.shape == (3, 4, 2, 2, 2) and second.poses.shape == (2, 8)


@pytest.mark.parametrize("changes", [{"steps": 5}, {"steps": 0}, {"teacher_steps": 1}])
def test_steps_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match="trainer\\.(teacher_)?steps"):
        SceneFlowDistillationConfig(**{**CONFIG, **changes})
