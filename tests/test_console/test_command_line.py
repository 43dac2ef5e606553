"""The command ``mvp-mm``, as a user calls it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mvp_mm
import mvp_mm_command
from mvp_mm.console.teacher_names import DEFAULT_TEACHER, TINY_TEACHER
from mvp_mm.console.training import STUDENTS
from mvp_mm.export import TARGETS

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
    assert tuple(STUDENTS) == mvp_mm_command.STUDENTS and args.teacher is None
    assert (mvp_mm_command.TEACHER, mvp_mm_command.TINY_TEACHER) == (DEFAULT_TEACHER, TINY_TEACHER)
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


def commands_of_the_docs():
    for page in (ROOT / 'README.md', *sorted(DOCS.glob('*.md'))):
        text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
        for line in '\n'.join(re.findall(r'```bash\n(.*?)```', text, re.DOTALL)).splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ['mvp-mm']:
                yield page.name, words[1:]


def test_commands_of_the_docs():
    """The parser takes each."""
    pages = set()
    for page, words in commands_of_the_docs():
        mvp_mm_command.mvp_mm_parser().parse_args(words)
        pages.add(page)
    assert {'README.md', 'photographs.md'} <= pages


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
    assert call(monkeypatch, *command, '--cfg-options', 'a.b=1', '--cfg-options', 'c=[2,3]') is None
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
