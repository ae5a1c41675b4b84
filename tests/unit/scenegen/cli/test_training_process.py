"""How faults of training are told."""

import pytest
from torch.utils.data import DataLoader, Dataset

from scenegen.cli.training_process import one_line
from scenegen.datasets.sample_files import SampleError


class _Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise SampleError("photo.png: expected a picture: got none")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_data_is_one_line_whoever_read_them(workers):
    with pytest.raises(SampleError) as fault:
        next(iter(DataLoader(_Broken(), num_workers=workers)))
    assert one_line(fault.value) == "photo.png: expected a picture: got none"


def test_other_faults_are_told_by_their_first_line():
    assert one_line(ValueError("first\nsecond")) == "first"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
