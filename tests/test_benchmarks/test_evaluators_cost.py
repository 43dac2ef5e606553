"""The benchmark of trainings with and without evaluators."""

import pytest

from benchmarks import evaluators_cost as cost
from benchmarks.interleaved import Timing


def test_table():
    found = {cost.PLAIN: Timing([2.0, 4.0, 2.0]), 'slower': Timing([4.0, 5.0, 2.5])}
    lines = cost.evaluators_report(found, steps=25).splitlines()
    assert f'| {cost.PLAIN} | 800 | 1.000 | 1.000, 1.000 |' in lines
    assert '| slower | 400 | 0.800 | 0.500, 0.800 |' in lines


@pytest.mark.slow
@pytest.mark.parametrize('name', cost.variants())
def test_trains_with(name, tmp_path):
    entries = cost.variants()[name]
    for entry in entries or []:
        for loader in {'dataloader', 'train_dataloader'} & entry.keys():
            entry[loader] |= dict(batch_size=4, dataset=entry[loader]['dataset'] | dict(count=8))
    assert cost.train_seconds(entries, 2, tmp_path, batch=4) > 0
