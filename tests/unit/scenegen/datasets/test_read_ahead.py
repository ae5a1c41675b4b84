"""Items made ahead: in any order, by any number of workers, and without making what nobody asks for."""

from __future__ import annotations

import os

import pytest
import torch
from torch.utils.data import Dataset

from scenegen.datasets.read_ahead import ReadAhead


class Numbers(Dataset):
    """Item n: n, and the process that made it."""

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return torch.tensor(number), os.getpid()


ORDERS = {
    "every one": [0, 1, 2, 3, 4],
    "every third, as one of three processes": [1, 4, 7, 10, 13],
    "from the middle on, then back": [7, 8, 9, 2, 3],
    "one of them again": [3, 4, 4, 5, 6],
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("numbers", ORDERS.values(), ids=ORDERS)
def test_items_are_those_asked_for(workers, numbers):
    items = ReadAhead(Numbers(), workers, ahead=2)
    made = [items.get(number) for number in numbers]
    assert [int(value) for value, _ in made] == numbers
    assert all((process == os.getpid()) == (workers == 0) for _, process in made)


def test_workers_stay_while_numbers_come_in_equal_strides():
    items = ReadAhead(Numbers(), workers=1)
    makers = [items.get(number)[1] for number in (0, 2, 4, 6, 8)]
    assert len(set(makers[1:])) == 1 and makers[0] != makers[1]  # the first guess is a stride of one


def test_nothing_is_made_beyond_the_end():
    class Few(Numbers):
        def __getitem__(self, number):
            if number >= 3:
                raise IndexError(number)
            return super().__getitem__(number)

    items = ReadAhead(Few(), workers=1, end=3)
    assert [int(items.get(number)[0]) for number in range(3)] == [0, 1, 2]
