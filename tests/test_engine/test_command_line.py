"""What the command-line tools share."""

import argparse

import pytest

from mvp_mm.engine import argument_parser, existing_checkpoint, positive_float, positive_int, run_command_line


def test_option_without_a_value():
    with pytest.raises(ValueError, match="KEY=VALUE.*got 'model.backbone.init_cfg.checkpoint'"):
        argument_parser('').parse_args(['c.py', '--cfg-options', 'model.backbone.init_cfg.checkpoint'])


def test_numbers():
    assert positive_int('12') == 12 and positive_float('1e-3') == 1e-3
    for kind, text in [(positive_int, '0'), (positive_int, '1.5'), (positive_int, '-1'), (positive_int, 'x')]:
        with pytest.raises(argparse.ArgumentTypeError, match=f'whole number of 1 or more, got {text}'):
            kind(text)
    for text in ('0', '-1', 'nan', 'inf', 'x'):
        with pytest.raises(argparse.ArgumentTypeError, match=f'finite number above 0, got {text}'):
            positive_float(text)


def test_existing_checkpoint(tmp_path):
    (tmp_path / 'epoch_3.pth').touch()
    path = str(tmp_path / 'epoch_3.pth')
    assert existing_checkpoint(path) == path
    for address in ('https://host/a.pth', 'hf://owner/name/a.pth'):
        assert existing_checkpoint(address) == address
    assert existing_checkpoint('mvp_vittiny_scenes') == 'mvp_vittiny_scenes'
    for wrong, message in [
        (str(tmp_path), r'is a folder without .*: give the weight file, such as \S+/epoch_3.pth$'),
        (
            str(tmp_path / 'gone.pth'),
            'no checkpoint .*gone.pth; beside it there is: epoch_3.pth',
        ),
        ('s3://bucket/a.pth', r'give a file, or an http\(s\) or hf:// address'),
    ]:
        with pytest.raises(FileNotFoundError, match=message):
            existing_checkpoint(wrong)


def fail(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('lr=-1: expected'), 'ERROR: lr=-1: expected'),
        (KeyError("'X is not in the model registry. Check'"), 'ERROR: .*X is not in the model registry. '),
        (TypeError("__init__() got an unexpected keyword argument 'a'"), 'ERROR: .* argument .a.'),
        (AssertionError('Failed to load `ann_file` a.txt'), 'ERROR: Failed to load `ann_file` a.txt'),
        (
            RuntimeError('Connection closed by peer [127.0.0.1]'),
            'ERROR: another process of this job has ended',
        ),
        (
            ValueError('Caught ValueError in DataLoader worker process 0.\nTraceback\nValueError: bad image'),
            'ERROR: bad image\n',
        ),
    ],
)
def test_errors_of_the_user_are_one_line(error, line, monkeypatch):
    monkeypatch.delenv('MVP_MM_TRACEBACK', raising=False)
    with pytest.raises(SystemExit, match=line):
        run_command_line(fail(error))
    monkeypatch.setenv('MVP_MM_TRACEBACK', '1')
    with pytest.raises(type(error)):
        run_command_line(fail(error))


def test_mistakes_in_the_code_keep_their_traceback():
    mistakes = TypeError('unsupported operand'), KeyError('name'), RuntimeError('shapes'), AssertionError('1')
    for error in mistakes:
        with pytest.raises(type(error)):
            run_command_line(fail(error))


def test_the_process_is_named(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit, match=r'ERROR \(process 1 of 2\): no'):
        run_command_line(fail(OSError('no')))


@pytest.mark.parametrize('folder', ['my photos', 'a,b', '2024', "it's", '~/p'])
def test_paths_of_data_are_taken_as_they_are(folder):
    options = [f'train_dataloader.dataset.data_root={folder}', 'a.ann_file=l,1.txt', 'train_cfg.max_epochs=2']
    found = argument_parser('').parse_args(['c.py', '--cfg-options', *options]).cfg_options
    assert found == {
        'train_dataloader.dataset.data_root': folder,
        'a.ann_file': 'l,1.txt',
        'train_cfg.max_epochs': 2,
    }
    words = ['c.py', '--cfg-options', 'd.data_root=[a,b]', 'e.data_root=None']
    several = argument_parser('').parse_args(words)
    assert several.cfg_options == {'d.data_root': ['a', 'b'], 'e.data_root': None}
