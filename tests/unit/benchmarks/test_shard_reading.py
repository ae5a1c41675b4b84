"""The benchmark of shards reads every sample that it writes."""

import re

from benchmarks import shard_reading


def test_every_sample_is_read_and_counted(capsys, monkeypatch):
    monkeypatch.setattr(shard_reading, "FEATURE_SIZE", (1, 6, 8))
    shard_reading.main(["--scenes", "3", "--latents", "70", "--image_size", "14", "--workers", "0"])
    printed = capsys.readouterr().out
    counts = [int(count) for count in re.findall(r"\((\d+) read by 0 processes\)", printed)]
    assert counts == [70, 3 * shard_reading.OBJECTS]
