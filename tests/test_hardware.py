"""Cores, memory and precision are told as they are, whoever limits them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mvp_mm import hardware
from mvp_mm.engine import MVPOptimWrapper
from mvp_mm.engine.loader_workers import clamp_workers
from mvp_mm.hardware import Cores, cpu_quota, fair_share, usable_cores, usable_memory

EIGHT = frozenset(range(8))


@pytest.fixture
def seen_by(monkeypatch):
    """``seen_by(cores, rank)``: be a process of a job whose processes see these cores."""
    hardware._shared.cache_clear()

    def be(cores, rank=0):
        monkeypatch.setattr(hardware, 'seen_cores', lambda: cores[rank])
        monkeypatch.setattr('mmengine.dist.get_world_size', lambda: len(cores))
        monkeypatch.setattr('mmengine.dist.get_rank', lambda: rank)
        monkeypatch.setattr('mmengine.dist.is_distributed', lambda: len(cores) > 1)
        monkeypatch.setattr('mmengine.dist.all_gather_object', lambda mine: cores)

    yield be
    hardware._shared.cache_clear()


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ('LOCAL_WORLD_SIZE', 'SLURM_PROCID', 'SLURM_CPUS_PER_TASK'):
        monkeypatch.delenv(name, raising=False)


def workers(wanted=32):
    loader = dict(num_workers=wanted)
    clamp_workers(loader)
    return loader['num_workers']


def test_all_see_all_cores_of_two_machines(seen_by):
    """As torchrun starts them: the other machine's processes take nothing from here."""
    seen_by([Cores('a', EIGHT)] * 2 + [Cores('b', EIGHT)] * 4, rank=1)
    assert workers() == 4 and workers(3) == 3
    assert fair_share([Cores('a', EIGHT)] * 2 + [Cores('b', EIGHT)] * 4, 5) == 2


def test_each_is_bound_to_its_own(seen_by, monkeypatch):
    """As Slurm starts them: eight of a machine, with four cores each."""
    cores = [Cores('ab'[rank // 8], frozenset(range(rank % 8 * 4, rank % 8 * 4 + 4))) for rank in range(16)]
    monkeypatch.setenv('SLURM_PROCID', '11')
    seen_by(cores, rank=11)
    assert workers() == 4


def test_slurm_without_binding(seen_by, monkeypatch):
    """Other jobs may use what a task did not ask for."""
    monkeypatch.setenv('SLURM_PROCID', '0')
    monkeypatch.setenv('SLURM_CPUS_PER_TASK', '3')
    seen_by([Cores('a', EIGHT)] * 2)
    assert workers() == 3


def test_two_share_each_socket(seen_by):
    """As mpirun may bind them."""
    halves = frozenset(range(4)), frozenset(range(4, 8))
    seen_by([Cores('a', halves[rank // 2]) for rank in range(4)], rank=2)
    assert workers() == 2


def test_more_processes_than_cores(seen_by):
    seen_by([Cores('a', frozenset({0}))] * 3)
    assert workers() == 1


def test_one_process_has_all_it_sees(seen_by, monkeypatch):
    """Also in an allocation for many tasks."""
    monkeypatch.setenv('SLURM_PROCID', '0')
    monkeypatch.setenv('SLURM_CPUS_PER_TASK', '1')
    seen_by([Cores('a', EIGHT)])
    assert workers() == 8


def test_one_of_many_runs_of_torchrun(seen_by, monkeypatch):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    seen_by([Cores('a', EIGHT)])
    assert workers() == 2


def test_a_containers_quota(seen_by):
    assert fair_share([Cores('a', EIGHT, 3.5)], 0) == 3
    assert fair_share([Cores('a', EIGHT, 6.0)] * 2, 0) == 3
    assert fair_share([Cores('a', EIGHT, 64.0)] * 2, 0) == 4


@pytest.mark.parametrize(
    'files,quota',
    [
        ({'cpu.max': '350000 100000\n'}, 3.5),
        ({'cpu.max': 'max 100000\n'}, None),
        ({'cpu/cpu.cfs_quota_us': '200000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 2.0),
        ({'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, None),
        ({}, None),
    ],
)
def test_the_files_of_a_quota(files, quota, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='no affinity here')
def test_this_process():
    assert hardware.seen_cores().numbers == os.sched_getaffinity(0)


def test_usable_cores_are_the_containers_too(monkeypatch):
    monkeypatch.setattr(hardware, 'seen_cores', lambda: Cores('a', EIGHT, 2.5))
    assert usable_cores() == 2
    monkeypatch.setattr(hardware, 'seen_cores', lambda: Cores('a', EIGHT, 0.5))
    assert usable_cores() == 1


@pytest.mark.parametrize('name', ['memory.max', 'memory/memory.limit_in_bytes'])
def test_usable_memory(name, tmp_path):
    whole = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    (tmp_path / name).parent.mkdir(exist_ok=True)
    for text, expected in (('max\n', whole), (f'{2**30}\n', 2**30), (f'{2**62}\n', whole)):
        (tmp_path / name).write_text(text)
        assert usable_memory(tmp_path) == expected


def test_cores_without_torch():
    """The set-up scripts ask an interpreter in which nothing is installed."""
    tool = Path(__file__).parents[1] / 'tools/check_env.py'
    done = subprocess.run([sys.executable, '-S', tool, 'cores'], capture_output=True, text=True, check=True)
    assert int(done.stdout) == usable_cores()


@pytest.mark.parametrize(
    'onednn,machine,avx512_bf16,amx,native',
    [
        (False, 'x86_64', True, True, False),  # ONEDNN_MAX_CPU_ISA=AVX2
        (True, 'x86_64', False, False, False),  # plain AVX-512
        (True, 'x86_64', True, False, True),
        (True, 'AMD64', False, True, True),
        (True, 'aarch64', False, False, True),
        (False, 'aarch64', False, False, False),
    ],
)
def test_bf16_of_a_cpu(onednn, machine, avx512_bf16, amx, native, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: onednn)
    monkeypatch.setattr('platform.machine', lambda: machine)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx)
    assert hardware.has_native_bf16('cpu') == native
    assert hardware.fast_precision('cpu') == ('bfloat16' if native else 'float32')
    assert hardware.cpu_instructions().endswith(', native bf16') == native


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ('x86_64', 'amd64'), reason='the variables are of x86')
def test_the_variables_that_hide_instructions():
    """So that a machine with bf16 can be tried as one without."""
    code = 'from mvp_mm.hardware import *; print(has_native_bf16("cpu"), cpu_instructions())'
    hidden = dict(os.environ, ATEN_CPU_CAPABILITY='avx2', ONEDNN_MAX_CPU_ISA='AVX2')
    done = subprocess.run(
        [sys.executable, '-c', code], env=hidden, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == 'False' and 'no native bf16' in done.stdout


@pytest.mark.parametrize('native', [True, False])
def test_bf16_on_a_cpu_only_by_name(native, monkeypatch):
    monkeypatch.setattr(hardware, '_cpu_has_bf16', lambda: native)
    monkeypatch.setattr('mvp_mm.engine.optim.mvp_optim_wrapper.get_device', lambda: 'cpu')
    said = []
    monkeypatch.setattr(
        'mvp_mm.engine.optim.mvp_optim_wrapper.print_log', lambda text, **kwargs: said.append(text)
    )
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), 0.1)
    assert MVPOptimWrapper(optimizer).precision == 'float32' and not said
    assert MVPOptimWrapper(optimizer, precision='bfloat16').precision == 'bfloat16'
    assert len(said) == (0 if native else 1)
    assert native or 'about twenty times as long' in said[0]
