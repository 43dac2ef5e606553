"""The command ``mvp-mm``, as a user calls it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mvp_mm
import mvp_mm_command
from mvp_mm.console.doctor import Finding, diagnose
from mvp_mm.console.models_table import cells, print_models
from mvp_mm.console.training import DEFAULT_TEACHER, STUDENTS
from mvp_mm.export import TARGETS
from mvp_mm.zoo import find_entry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'


def call(monkeypatch, *arguments):
    """Run the command in this process; give what it ended with."""
    monkeypatch.setattr(sys, 'argv', ['mvp-mm', *map(str, arguments)])
    try:
        mvp_mm_command.main()
    except SystemExit as error:
        return error.code


def test_help_imports_nothing_heavy():
    program = (
        'import runpy, sys\n'
        'sys.argv = ["mvp-mm", "pretrain", "--help"]\n'
        'try:\n'
        f'    runpy.run_path({str(ROOT / "mvp_mm_command.py")!r}, run_name="__main__")\n'
        'except SystemExit:\n'
        '    print("heavy:", sorted({"torch", "numpy", "mmengine", "mvp_mm", "rich"} & set(sys.modules)))\n'
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert 'usage: mvp-mm pretrain' in done.stdout and done.stdout.strip().endswith('heavy: []')


def test_the_arguments_are_those_of_python():
    """Kept apart from the package, the command must not drift from it."""
    parser = mvp_mm_command.mvp_mm_parser()
    args = parser.parse_args(['pretrain', '--data', 'a', '--out', 'b'])
    assert tuple(STUDENTS) == mvp_mm_command.STUDENTS and args.teacher == DEFAULT_TEACHER
    assert tuple(TARGETS) == mvp_mm_command.TARGETS
    with pytest.raises(SystemExit):
        parser.parse_args(['finetune', '--data', 'a', '--out', 'b'])  # neither checkpoint nor scratch


def test_the_old_spelling_of_training_a_segmentor(monkeypatch):
    old = ['--data', 'my maps', '--classes', 'a', 'b', '--from-scratch', '--out', 'o']
    ended = call(monkeypatch, 'segment', *old)
    assert ended.strip() == (
        "ERROR: `mvp-mm segment` predicts. To train: mvp-mm finetune --task segmentation --data 'my maps' "
        '--classes a b --from-scratch --out o'
    )
    args = mvp_mm_command.mvp_mm_parser().parse_args(['finetune', '--task', 'segmentation', *old])
    assert args.classes == ['a', 'b']
    for old_call in (
        lambda: mvp_mm.segment('d', 'o', None, ['a']),
        lambda: mvp_mm.segment(data='d', out='o'),
    ):
        with pytest.raises(TypeError, match="To train: mvp_mm.finetune.*task='segmentation'"):
            old_call()


@pytest.mark.parametrize('page', sorted(['README.md', *(f'docs/{path.name}' for path in DOCS.glob('*.md'))]))
def test_commands_of_the_docs(page):
    """Each is one that the parser takes, or a tool's."""
    text = (ROOT / page).read_text(encoding='utf-8').replace('\\\n', ' ')
    blocks = re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
    for line in '\n'.join(blocks).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ['mvp-mm']:
            mvp_mm_command.mvp_mm_parser().parse_args(words[1:])


def test_the_command_is_installed():
    text = (ROOT / 'setup.py').read_text()
    assert "'mvp-mm = mvp_mm_command:main'" in text and "py_modules=['mvp_mm_command']" in text


def test_a_mistake_ends_in_one_line(tmp_path, monkeypatch):
    gone = tmp_path / 'gone'
    ended = call(monkeypatch, 'pretrain', '--data', gone, '--out', tmp_path, '--student', 'vit-tiny')
    assert ended.strip().startswith('ERROR: ') and str(gone) in ended


def test_commands_run(monkeypatch):
    ended = call(monkeypatch, 'download', 'mvp_vitb16_in1k')
    assert ended.strip().startswith('ERROR: there are no published weights of mvp_vitb16_in1k')


def test_options_reach_the_config(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr('mvp_mm.console.finetune', lambda **args: seen.update(args))
    command = ['finetune', '--data', 'd', '--out', 'o', '--from-scratch', '--epochs', '3']
    assert call(monkeypatch, *command, '--cfg-options', 'a.b=1', 'c=[2,3]') is None
    assert seen == dict(
        data='d',
        out='o',
        checkpoint=None,
        student='vit-base',
        epochs=3,
        batch=None,
        dry_run=False,
        task='classification',
        classes=None,
        iterations=None,
        image_suffix='.jpg',
        verbose=False,
        options={'a.b': 1, 'c': [2, 3]},
    )


def test_models(capsys):
    print_models('mvp_vitb16_in1k')
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if 'Pre-training' in line]
    for text in ('Pre-training', '85.7 M', '17.6 G', '84.4, 75.4, 52.4', 'not measured'):
        assert text in line
    assert '\npaper: ADE20K mIoU with UperNet: 52.4\n' in printed
    print_models('mvp_vitb16*')
    assert 'ADE20K mIoU' not in capsys.readouterr().out
    assert cells(find_entry('teachers_clip_vittiny_scenes'))[-2:] == ('51.2, 94.1', 'mvp_mm')
    with pytest.raises(ValueError, match='no model has a name like'):
        print_models('zzz')


def test_doctor(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MVP_MM_ZOO', raising=False)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    assert diagnose() == 0
    printed = capsys.readouterr().out
    assert 'no data/imagenet/train in' in printed and 'tools/prepare_ade20k.py' in printed
    assert 'teachers_clip_vittiny_scenes: its weights are there' in printed
    assert 'switched off by the environment' in printed and 'everything that is needed is there' in printed
    monkeypatch.setenv('MVP_MM_ZOO', str(tmp_path / 'gone'))
    monkeypatch.setattr('mvp_mm.console.doctor.COMPONENTS', {})
    assert diagnose() == 1
    printed = capsys.readouterr().out
    assert 'FAIL  the zoo' in printed and '1 to fix' in printed
    monkeypatch.setattr('mvp_mm.console.doctor.CHECKS', [lambda: [Finding('fail', 'a [b]', 'do c')]])
    assert diagnose() == 1 and 'a [b]' in capsys.readouterr().out
