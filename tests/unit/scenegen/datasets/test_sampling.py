"""Which samples a batch holds: each once a round, whatever the number of processes, known for any step."""

from __future__ import annotations

from collections import Counter

import pytest

from scenegen.datasets.sampling import EndlessRounds, EqualGroups, balanced_groups
from trellis_modules.config import ConfigError


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("loads", [None, [7, 1, 9, 3, 5, 30, 2]])
def test_every_sample_comes_once_a_round(slots, loads):
    plan, count, size = EndlessRounds(7, 2, seed=1, loads=loads), 7, 2
    steps = 7  # 7 * slots batches of 2 are exactly 2 * slots rounds
    seen = Counter(
        row for step in range(steps) for slot in range(slots) for row in plan.rows(step, slot, slots)
    )
    assert seen == dict.fromkeys(range(count), size * slots)


def test_rounds_have_different_orders_and_seeds_different_ones():
    def first_rounds(seed):
        plan = EndlessRounds(20, 20, seed)
        return [tuple(plan.rows(step, 0, 1)) for step in range(3)]

    orders = first_rounds(0) + first_rounds(1)
    assert len(set(orders)) == 6 and all(sorted(order) == list(range(20)) for order in orders)
    assert first_rounds(0) == orders[:3]


def test_a_step_has_the_same_samples_whatever_the_number_of_batches():
    for step in range(9):
        whole = EndlessRounds(10, 6, seed=3).rows(step, 0, 1)
        parts = [EndlessRounds(10, 2, seed=3).rows(step, slot, 3) for slot in range(3)]
        assert sum(parts, []) == whole


def test_heavy_and_light_samples_are_mixed():
    loads = [100, 1, 1, 90, 80, 2, 3, 70, 60, 5, 50, 4]
    groups = balanced_groups(loads, 3)
    assert sorted(sum(groups, [])) == list(range(12)) and {len(group) for group in groups} == {4}
    totals = [sum(loads[place] for place in group) for group in groups]
    in_order = [sum(loads[first : first + 4]) for first in (0, 4, 8)]
    assert max(totals) - min(totals) <= 25 < max(in_order) - min(in_order)
    assert max(totals) <= 170  # all weigh 466


GROUPS = {2: range(0, 20), 3: range(20, 31), 5: range(31, 34)}


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_samples_of_a_step_are_of_one_group_and_as_few_as_can_be_are_left_out(slots):
    plan = EqualGroups(GROUPS, slots, seed=0, kind="objects")
    assert plan.steps_per_round == sum(len(group) // slots for group in GROUPS.values())
    seen = Counter()
    for step in range(plan.steps_per_round):
        rows = [row for slot in range(slots) for row in plan.rows(step, slot, slots)]
        assert len(rows) == slots and sum(set(rows) <= set(group) for group in GROUPS.values()) == 1
        seen.update(rows)
    assert set(seen.values()) == {1} and len(seen) == plan.steps_per_round * slots
    assert EqualGroups(GROUPS, slots, seed=0, kind="objects").rows(step, slots - 1, slots) == rows[-1:]


def test_all_samples_are_seen_over_the_rounds():
    plan = EqualGroups(GROUPS, slots=2, seed=0, kind="objects")
    steps = range(plan.steps_per_round * 12)
    assert {row for step in steps for slot in range(2) for row in plan.rows(step, slot, 2)} == set(range(34))
    sizes = [len(next(g for g in GROUPS.values() if plan.rows(step, 0, 2)[0] in g)) for step in steps[:16]]
    assert sizes != sorted(sizes, reverse=True)  # the groups are mixed


def test_more_batches_than_any_group_has_samples_are_refused():
    with pytest.raises(ConfigError, match="at least 21 .* 20 with 2 objects, 11 with 3 objects, 3 with 5"):
        EqualGroups(GROUPS, 21, seed=0, kind="objects")
