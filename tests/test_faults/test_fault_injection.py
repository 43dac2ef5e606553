"""The sweep of faults, made short: what it kills ends as if nothing had happened, and its report says so."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from faults.bad_images import WAYS
from faults.kills import Baseline, Outcome, run_baseline
from faults.phase_hook import PHASES, PhaseHook, Position, read_position, trained_samples
from faults.report import kills_section, truncations_section
from faults.tiny_run import difference, digest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/analysis_tools/fault_injection.py'


def test_short(tmp_path):
    short = '--kills 2 --shard-kills 1 --rank-kills 0 --cuts 1 --images 200 --epochs 1'
    short += ' --out report.md --keep runs'
    done = subprocess.run(
        [sys.executable, TOOL, *short.split()],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / 'report.md').read_text()
    assert '**2 of 2 the same.**' in report and '**1 of 1 the same.**' in report
    assert '**1 of 1 the same**: each' in report and ' Each of 64 samples came once an epoch.' in report
    hit = re.findall(r'^\| (step|save|evaluation|end) \| (\d+) \| (\d+) \|', report, re.M)
    assert sum(int(times) for _, times, _ in hit) == 3 and all(times == same for _, times, same in hit)
    assert 'Training finished, and exactly these are in bad_images.txt (10 lines)' in report
    for way in WAYS:
        assert f'| {way} | 1 | 1 | ' in report
    whole = read_position(tmp_path / 'runs/undisturbed_1')
    assert (whole.first, whole.done, PHASES[whole.phase]) == (0, 8, 'end')
    assert whole.entered[PHASES.index('save')] == 4 and whole.entered[PHASES.index('evaluation')] == 1


def test_two_processes(tmp_path, monkeypatch):
    """They find the hook, which no package installs, without the tests' PYTHONPATH."""
    monkeypatch.delenv('PYTHONPATH', raising=False)
    whole = run_baseline(tmp_path, processes=2, epochs=1)
    assert whole.position.done == 8
    first, second = whole.samples(whole.work_dir)
    assert len(first) == len(second) == 8 and not set(sum(first, [])) & set(sum(second, []))


def test_a_digest_sees_every_change(tmp_path):
    weight, moment = torch.arange(6.0).reshape(2, 3), torch.zeros(3)

    def of(weight=weight, moment=moment, name='a'):
        path = tmp_path / 'a.pth'
        torch.save(dict(state_dict={name: weight}, optimizer=dict(state={0: dict(exp_avg=moment)})), path)
        return digest(path)

    others = [
        of(weight.reshape(3, 2)),
        of(weight.half()),
        of(weight.nextafter(weight + 1)),
        of(moment=moment - 0.0 * moment - 1e-45),
        of(name='b'),
    ]
    assert of() == of() and len({of(), *others}) == 6


def test_a_difference_names_the_tensor(tmp_path):
    weights = dict(a=torch.arange(6.0), b=torch.zeros(3))

    def saved(name, **changes):
        torch.save(dict(state_dict={**weights, **changes}, optimizer={}), tmp_path / name)
        return tmp_path / name

    whole = saved('whole.pth')
    assert difference(saved('same.pth'), whole) == ''
    told = difference(saved('value.pth', b=torch.tensor([0.0, 0.25, 0.0])), whole)
    assert told == '1 of 2 tensors differ, by at most 0.25; the first is state_dict.b'
    assert difference(saved('zero.pth', b=-torch.zeros(3)), whole).startswith('1 of 2 tensors differ')
    assert 'in shape or type; the first is state_dict.a' in difference(
        saved('shape.pth', a=torch.ones(2)), whole
    )
    assert 'does not hold the tensors' in difference(saved('more.pth', c=torch.ones(2)), whole)


def test_samples_that_a_kill_cut(tmp_path):
    runner = SimpleNamespace(work_dir=tmp_path, iter=0)

    def begin(*names):
        hook.before_train_iter(
            runner, 0, dict(data_samples=[SimpleNamespace(img_path=name) for name in names])
        )

    hook = PhaseHook()
    hook.before_train(runner)
    begin('a.jpg', 'b.jpg')
    runner.iter = 1
    begin('c.jpg', 'd.jpg')
    os.truncate(tmp_path / 'samples.0', (tmp_path / 'samples.0').stat().st_size - 4)
    hook.before_train(runner)  # of the restarted run
    begin('c.jpg', 'd.jpg')
    assert trained_samples(tmp_path) == [['a.jpg', 'b.jpg'], ['c.jpg', 'd.jpg']]
    begin('c.jpg', 'x.jpg')
    with pytest.raises(RuntimeError, match='iteration 1 was done again with other samples'):
        trained_samples(tmp_path)


def test_a_run_that_differs_is_told():
    position = Position(1, 4, 0, 24, (0, 30, 12, 3, 1), (0.0,) * 5)
    whole = Baseline(Path('c.py'), Path('w'), 'ab' * 32, position, 5.0)
    outcomes = [Outcome('save', 9, 8, '3 of 9 tensors differ', 12.0), Outcome('step', 5, 4, '', 20.0)]
    text = kills_section('Kills', whole, outcomes)
    assert '**1 of 2 the same.**' in text and '| save | 1 | 0 | 1 |' in text and '12 to 20 s' in text
    assert text.endswith('* number 0, hit in save after 9 iterations, went on from 8: 3 of 9 tensors differ')
    cuts = [Outcome('10 of 99 bytes', -1, 22, ''), Outcome('20 of 99 bytes', -1, 22, '1 tensor')]
    assert '**1 of 2 the same**' in truncations_section(cuts)
    assert 'Bytes left of 99: 10, 20.' in truncations_section(cuts)
    assert truncations_section(cuts).endswith(': 1 tensor') and 'number 0' not in truncations_section(cuts)
    assert truncations_section(cuts[:1]).endswith('Bytes left of 99: 10.')
