"""What the benchmarks count and how they take turns; never how long anything takes."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import malloc_policy
from benchmarks.gemm_floor import Gemm, gemm_floor, step_gemms
from benchmarks.interleaved import Phases, Timing, phase_shares, time_interleaved
from benchmarks.pretrain_report import benchmark_pretrain
from benchmarks.pretrain_variants import MMPretrainBEiTv2, ThisPackage, TimmAndOpenCLIP

pytestmark = pytest.mark.slow

CPU = torch.device('cpu')


def counted(step):
    """FLOPs of a step's matrix products, by torch's own counter."""
    torch.backends.mha.set_fastpath_enabled(False)  # which the counter does not see
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            step()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops()


def test_flops_of_a_step_are_those_of_the_products():
    step = ThisPackage(1, CPU, torch.float32)
    assert abs(counted(step) / step.flops - 1) < 1e-3
    plain = TimmAndOpenCLIP(1, CPU, torch.float32)
    assert abs(counted(plain) / plain.flops - 1) < 1e-3


def test_flops_of_the_peer():
    step = MMPretrainBEiTv2(1, CPU, torch.float32)
    assert abs(counted(step) / step.flops - 1) < 0.01
    assert 1.12 < step.flops / sum(gemm.flops for gemm in step_gemms(1, (768, 12, 12))) < 1.19


def test_the_floor_multiplies_what_it_says():
    gemms = [Gemm(3, 4, 5), Gemm(3, 4, 5, layout='nt'), Gemm(2, 6, 3, 4, 'tn'), Gemm(2, 6, 3, 4, 'tn')]
    assert [gemm.flops for gemm in gemms] == [120, 120, 288, 288]
    with FlopCounterMode(display=False) as counter:
        gemm_floor(gemms, CPU, torch.float32)()
    assert counter.get_total_flops() == 120 + 120 + 2 * 288


def test_variants_take_turns():
    order = []
    works = {name: lambda name=name: order.append(name) for name in 'abc'}
    timings = time_interleaved(works, 3, CPU, warmup=1)
    assert ''.join(order) == 'abc' + 'abc' + 'bca' + 'cab'
    assert all(len(timing.seconds) == 3 for timing in timings.values())


def test_a_variant_runs_once_more_where_something_was_changed_for_it():
    order = []
    works = {name: lambda name=name: order.append(name) for name in 'ab'}
    timings = time_interleaved(works, 2, CPU, prepare=lambda name: name == 'b')
    assert ''.join(order) == 'ab' + 'abb' + 'bba'
    assert all(len(timing.seconds) == 2 for timing in timings.values())


def test_each_has_its_own_malloc_policy(monkeypatch):
    calls = []
    monkeypatch.setattr(malloc_policy, 'keep_freed_memory', lambda: calls.append('keep') or True)
    monkeypatch.setattr(malloc_policy, 'give_back_freed_memory', lambda: calls.append('give') or True)
    prepare = malloc_policy.MallocPolicy(CPU, keeping=['ours'], indifferent=['floor'])
    assert [prepare(name) for name in ('ours', 'floor', 'ours', 'peer', 'other', 'ours')] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    assert calls == ['keep', 'give', 'keep']
    assert not malloc_policy.MallocPolicy(torch.device('cuda'), keeping=['ours'])('ours')


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    ours, theirs = Timing([1.0, 10.0, 2.0]), Timing([2.0, 15.0, 2.0])
    assert ours.ratio_to(theirs) == 1.5 and ours.median == 2.0


def test_phases():
    phases = Phases(CPU)
    with phases('step'), phases('part'):
        pass
    phases.seconds.update(step=[9.0, 4.0, 2.0], part=[9.0, 1.0, 1.0])
    assert phase_shares(phases) == {'part': 0.375}  # the first step does not count


def test_a_report(monkeypatch):
    """All of it, of stand-ins of no size for the variants."""

    class Step:
        says = 'a step'
        keeps_freed_memory = False
        flops = property(lambda self: 7)

        def __init__(self, *args):
            self.model = nn.Linear(2, 2)

        def __call__(self):
            return torch.zeros(())

    from benchmarks import pretrain_report

    class Ours(Step):
        keeps_freed_memory = True

        def timed(self, phases):
            with phases('step'), phases('teacher'):
                self()

    monkeypatch.setattr(pretrain_report, 'ThisPackage', Ours)
    monkeypatch.setattr(pretrain_report, 'PEERS', dict(beitv2=Step))
    monkeypatch.setattr(pretrain_report, 'step_gemms', lambda *args: [Gemm(2, 2, 2)])
    works = dict(mvp_mm=lambda: None, open_clip=lambda: None)
    monkeypatch.setattr(pretrain_report, 'teacher_variants', lambda *args: works)
    monkeypatch.setattr(pretrain_report, 'measured_matmul_rate', lambda *args: 1e9)
    text = benchmark_pretrain(CPU, 2, 'base', torch.float32, 2, ['beitv2'])
    assert text.startswith('## Pre-training step, ViT-B/16, float32, batch 2, cpu')
    assert text.count('| a step |') == 2 and '| bare matrix products |' in text
    assert '* Heap: only this package' in text and '* Where its step goes: teacher ' in text
