"""Pass after pass, each in the order of its epoch."""

from itertools import islice

from mvp_mm.datasets import EndlessSampler, EpochSampler


def test_passes_have_the_order_of_their_epochs():
    found = list(islice(EndlessSampler(range(10), seed=3), 25))
    assert [(index.epoch, index.seed) for index in found] == [(place // 10, 3) for place in range(25)]
    sampler = EpochSampler(range(10), seed=3)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert found[10 * epoch : 10 * epoch + 10] == list(sampler)
    assert list(islice(EndlessSampler(range(4), shuffle=False, seed=3), 6)) == [0, 1, 2, 3, 0, 1]
