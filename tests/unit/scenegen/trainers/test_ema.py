"""Running averages: the published rule, several rates beside each other, and an exact way there and back."""

import pytest
import torch

from scenegen.trainers.ema import Averages


def test_averages_follow_the_published_rule_for_every_rate():
    value = torch.tensor([1.0, -2.0])
    averages = Averages([value], (0.9, 0.5, 0.0, 1.0))
    expected = {rate: value.double() for rate in averages.rates}
    for step in range(5):
        value.mul_(1.5).add_(step)
        averages.update(step)
        expected = {rate: rate * old + (1 - rate) * value.double() for rate, old in expected.items()}
    for rate, (average,) in zip(averages.rates, averages.tensors, strict=True):
        torch.testing.assert_close(average.double(), expected[rate], rtol=1e-6, atol=0)


def test_warming_up_averages_are_nearer_to_the_values_at_first():
    value = torch.zeros(1)
    plain, warm = Averages([value], (0.999,)), Averages([value], (0.999,), warm_up=True)
    value += 1
    plain.update(0), warm.update(0)
    assert float(plain.tensors[0][0]) == pytest.approx(0.001) and float(warm.tensors[0][0]) == pytest.approx(
        0.9
    )


def test_values_and_averages_change_places_and_back_bit_for_bit():
    value = torch.randn(5)
    averages = Averages([value], (0.9, 0.7))
    before, (kept,) = value.clone(), [average.clone() for average in averages.tensors[1]]
    value += torch.randn(5)
    changed = value.clone()
    averages.swap(1)
    assert torch.equal(value, kept) and torch.equal(averages.tensors[0][0], before)
    averages.swap(1)
    assert torch.equal(value, changed) and torch.equal(averages.tensors[1][0], kept)


def test_averages_of_16_bit_values_are_float32():
    value = torch.ones(2, dtype=torch.float16)
    averages = Averages([value], (0.9999,))
    value += 1
    averages.update(0)
    assert averages.tensors[0][0].dtype == torch.float32 and float(
        averages.tensors[0][0][0]
    ) == pytest.approx(1.0001)
