"""The process group is ended with Python, whoever began it, where the others can be counted on."""

import os

import pytest
from torch import distributed

from mvp_mm.engine.distributed import process_group


@pytest.fixture
def group(monkeypatch):
    """``group(backend)``: a group that is said to be there; what is called at exit, and what is ended."""
    calls, ended = [], []

    def begin(backend):
        monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
        monkeypatch.setattr(distributed, 'get_backend', lambda: backend)
        monkeypatch.setattr(distributed, 'destroy_process_group', lambda: ended.append(backend))
        monkeypatch.setattr(process_group.atexit, 'register', calls.append)
        monkeypatch.setattr(process_group, '_ends_at_exit', False)
        monkeypatch.setattr(process_group, '_in_step', False)
        return calls, ended

    return begin


def leave(calls):
    for call in calls:
        call()


@pytest.mark.parametrize('backend', ['nccl', 'gloo'])
def test_ended_after_a_run(group, backend):
    calls, ended = group(backend)
    process_group.end_process_group_at_exit()
    process_group.end_process_group_at_exit()
    with process_group.in_step_with_peers():
        pass
    leave(calls)
    assert ended == [backend]


def test_ended_after_a_stop(group):
    calls, ended = group('nccl')
    process_group.end_process_group_at_exit()
    with pytest.raises(SystemExit), process_group.in_step_with_peers():
        raise SystemExit(143)
    leave(calls)
    assert ended == ['nccl']


@pytest.mark.parametrize('backend,expected', [('nccl', []), ('gloo', ['gloo'])])
def test_nobody_is_waited_for_after_a_failure(group, backend, expected):
    calls, ended = group(backend)
    process_group.end_process_group_at_exit()
    with process_group.in_step_with_peers():
        pass
    with pytest.raises(ValueError), process_group.in_step_with_peers():
        raise ValueError
    leave(calls)
    assert ended == expected


def test_nothing_without_a_group(monkeypatch):
    monkeypatch.setattr(process_group.atexit, 'register', lambda call: pytest.fail('registered'))
    process_group.end_process_group_at_exit()


def test_mpirun_gets_the_variable_that_mmengines_wrappers_read(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')  # so that it is undone
    monkeypatch.delenv('LOCAL_RANK')
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '3')
    process_group.begin_process_group('mpi')
    assert os.environ['LOCAL_RANK'] == '3'
