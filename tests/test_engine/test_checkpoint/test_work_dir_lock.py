"""Two trainings do not meet in one work dir."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from exact_runs import Watch, build, finish

from mvp_mm.engine.checkpoint import work_dir_lock
from mvp_mm.engine.checkpoint.work_dir_lock import NAME, lock_work_dir

# Another training, with a worker that outlives it.
HOLD = """
import importlib.util, os, sys, types
for name in ('mmengine', 'mmengine.dist'):
    sys.modules[name] = types.ModuleType(name)
sys.modules['mmengine.dist'].is_main_process = lambda: True
sys.modules['mmengine.dist'].broadcast_object_list = lambda values: None
spec = importlib.util.spec_from_file_location('lock', sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.lock_work_dir(sys.argv[2]):
    worker = os.fork()
    if worker == 0:
        os.close(1)
        os.read(0, 1)  # until the test is over
        os._exit(0)
    print(os.getpid(), worker, flush=True)
    os.read(0, 1)
"""


@pytest.fixture
def other(tmp_path):
    """A process that trains in ``tmp_path``, with the number of its worker."""
    command = [sys.executable, '-c', HOLD, work_dir_lock.__file__, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pid, process.worker = map(int, process.stdout.readline().split())
        assert pid == process.pid
        yield process
        process.kill()


def test_a_second_training_is_refused(other, tmp_path):
    says = f'^process {other.pid} on {socket.gethostname()} is training in {tmp_path}, and two .* --work-dir'
    with pytest.raises(ValueError, match=says):
        build(tmp_path, Watch()).train()
    assert not list(tmp_path.glob('*.pth'))
    build(tmp_path, Watch(), validate=True).val()  # which writes no checkpoint
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    watch = Watch()  # at once, though a worker of the killed process is still there
    assert len(finish(build(tmp_path, watch), watch)[0]) == 12
    os.kill(other.worker, 0)  # it was
    with lock_work_dir(tmp_path):
        assert (tmp_path / NAME).read_text() == f'process {os.getpid()} on {socket.gethostname()}\n'


def test_the_others_of_a_job_end_with_the_first(monkeypatch, tmp_path):
    monkeypatch.setattr(work_dir_lock, 'is_main_process', lambda: False)
    monkeypatch.setattr(work_dir_lock, 'HEAD_START', 0)

    def of_the_first(values):
        values[0] = 'process 7 on elsewhere'

    monkeypatch.setattr(work_dir_lock, 'broadcast_object_list', of_the_first)
    with pytest.raises(SystemExit) as ended, lock_work_dir(tmp_path):
        pass
    assert ended.value.code == 1 and not (tmp_path / NAME).exists()


def test_where_nothing_can_be_locked(monkeypatch, tmp_path):
    with lock_work_dir(tmp_path / 'gone'):
        pass

    def refuse(*arguments):
        raise OSError(work_dir_lock.errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(work_dir_lock.fcntl, 'lockf', refuse)
    with lock_work_dir(tmp_path):
        pass
    monkeypatch.setattr(work_dir_lock.sys, 'platform', 'win32')
    with lock_work_dir(tmp_path):
        pass
