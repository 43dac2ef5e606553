"""A fast path proves itself by the same losses; all of it: tools/analysis_tools/compare_losses.py."""

import pytest

from benchmarks import loss_parity
from mvp_mm.models.backbones import attention


@pytest.mark.slow
def test_fast_and_plain_losses_are_equal(monkeypatch):
    used = []
    plain = loss_parity.plain_attention
    monkeypatch.setattr(loss_parity, 'plain_attention', lambda *args: used.append(1) or plain(*args))
    difference, fast, _ = loss_parity.largest_difference(steps=6)
    assert difference < 1e-5 and fast[-1] < fast[0]
    assert len(used) == 6 * 4  # steps, layers
    assert attention.biased_attention is not loss_parity.plain_attention  # patched for a while only
