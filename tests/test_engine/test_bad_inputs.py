"""What users get wrong ends in one line that says what is wrong, never in a traceback."""

import gc
import re
import subprocess
import sys

import bad_inputs
import pytest
from mmengine.config import Config

from mvp_mm.engine import MVPRunner


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('inputs')
    bad_inputs.make_folder(root)
    return root


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    # What takes longer than all the rest: a report on the machine, formatted configs, and tidying up.
    monkeypatch.setattr(MVPRunner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.setattr(Config, 'pretty_text', '')
    monkeypatch.setattr(gc, 'collect', lambda *arguments: 0)


def check(bad, told, status):
    assert status == bad.status, told
    assert re.search(bad.says, told), told
    assert '\n' not in told and 'Traceback' not in told


@pytest.mark.slow
@pytest.mark.parametrize('bad', bad_inputs.BAD_INPUTS, ids=lambda bad: bad.command[:80])
def test_answer(bad):
    check(bad, *bad_inputs.answer(bad.command))


@pytest.mark.parametrize('bad', bad_inputs.OF_THE_SHELL, ids=lambda bad: bad.command)
def test_answer_of_the_shell(bad):
    check(bad, *bad_inputs.answer_of_the_shell(bad.command))


@pytest.mark.slow
def test_in_a_process_of_its_own():
    """The same as in this one."""
    tool = bad_inputs.ROOT / 'tools/train.py'
    done = subprocess.run(
        [sys.executable, tool, 'undefined.py'],
        env={**bad_inputs.os.environ, 'PYTHONPATH': str(bad_inputs.ROOT)},
        capture_output=True,
        text=True,
    )
    told, status = bad_inputs.answer('train.py undefined.py')
    assert done.returncode == status == 1
    assert told in done.stderr and 'Traceback' not in done.stderr


def test_the_page_lists_them_all():
    page = (bad_inputs.ROOT / 'docs/bad_inputs.md').read_text()
    every = [*bad_inputs.BAD_INPUTS, *bad_inputs.OF_THE_SHELL]
    assert page.startswith(f'# {len(every)} bad inputs')
    for bad in every:
        assert f'| `{bad_inputs._short(bad.command)}` |' in page, bad.command
