import os

import pytest

from mvp_mm.engine import core_share
from mvp_mm.engine.core_share import Cores, cpu_quota, fair_share
from mvp_mm.engine.fitted_loader import fit_loader

EIGHT = frozenset(range(8))


@pytest.fixture
def seen_by(monkeypatch):
    """``seen_by(cores, rank)``: be a process of a job whose processes see these cores."""
    core_share._shared.cache_clear()

    def be(cores, rank=0):
        monkeypatch.setattr(core_share, '_seen', lambda: cores[rank])
        monkeypatch.setattr(core_share, 'get_world_size', lambda: len(cores))
        monkeypatch.setattr(core_share, 'get_rank', lambda: rank)
        monkeypatch.setattr(core_share, 'is_distributed', lambda: len(cores) > 1)
        monkeypatch.setattr(core_share, 'gather', lambda mine: cores)

    yield be
    core_share._shared.cache_clear()


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ('LOCAL_WORLD_SIZE', 'SLURM_PROCID', 'SLURM_CPUS_PER_TASK'):
        monkeypatch.delenv(name, raising=False)


def workers(wanted=32):
    loader = dict(num_workers=wanted)
    fit_loader(loader)
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
    assert core_share._seen().numbers == os.sched_getaffinity(0)
