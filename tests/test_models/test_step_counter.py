import torch

from mvp_mm.models.step_counter import StepCounter


def test_counts_in_the_checkpoint():
    counter = StepCounter()
    for _ in range(3):
        counter.advance()
    assert counter.count == 3 and int(counter.steps) == 3
    restored = StepCounter()
    assert restored.count == 0
    restored.load_state_dict(counter.state_dict())
    assert restored.count == 3
    restored.advance()
    assert restored.count == int(restored.steps) == 4 and restored.steps.dtype == torch.int64
