from pathlib import Path

import pytest
import torch

from benchmarks.training_memory import LiveBytes, memory_table, step_bytes

CONFIG = str(Path(__file__).parents[2] / 'configs/rils/vittiny_scenes.py')


def test_live_bytes():
    with LiveBytes() as live:
        first = torch.empty(100)
        second = first + 1
        view = second[:50]
        del first
        third = view * 2
        assert (live.now, live.peak) == (600, 800)
        del second, view
        assert live.now == 200 == third.untyped_storage().nbytes()


@pytest.mark.slow
def test_a_step_of_rils():
    found = [step_bytes(CONFIG, 64, processes) for processes in (1, 2)]
    assert found[0]['state'] == found[1]['state'] > 16 * 472032  # of the image encoder alone
    activations = [step['peak'] - step['state'] for step in found]
    assert 1.8 < activations[0] / activations[1] < 2.2
    assert memory_table([CONFIG], 8, [2]).splitlines()[-1].startswith('| vittiny_scenes | 2 x 4 | 0.0 |')
