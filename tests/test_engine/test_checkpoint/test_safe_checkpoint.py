"""Checkpoints hold plain data, are loaded without running code, and are listed with the last one first."""

import collections
import enum
import io
import logging
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import nn
from toy_runs import names

from mvp_mm.engine.checkpoint.safe_checkpoint import (
    load_checkpoint_file,
    make_plain,
    saved_checkpoints,
)


def contents(value):
    """Types of all that a structure holds."""
    if isinstance(value, dict):
        return {type(value)}.union(*(contents(part) for pair in value.items() for part in pair))
    if isinstance(value, list | tuple):
        return {type(value)}.union(*(contents(part) for part in value))
    return {type(value)}


PLAIN = {dict, collections.OrderedDict, list, tuple, str, int, float, bool, type(None), torch.Tensor}


def test_a_checkpoint_holds_plain_data_only(run, tmp_path):
    class Tell(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint['told'] = dict(best=np.float64(0.5), ids=np.arange(3), path=Path('a'))

    run(hook=Tell(), scores=[1, 2, 3]).train()
    for path in tmp_path.glob('*.pth'):
        checkpoint = torch.load(path, weights_only=True)
        assert contents(checkpoint) <= PLAIN, contents(checkpoint) - PLAIN
        assert checkpoint['told']['best'] == 0.5 and checkpoint['told']['path'] == 'a'
    assert names(tmp_path) == ['best_score_epoch_3.pth', 'epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']
    history = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['message_hub']['log_scalars']
    assert history['train/loss']['log_history'].dtype == torch.float64
    assert len(history['train/loss']['log_history']) == 6


def test_every_kind(lines):
    class Kind(enum.IntEnum):
        ONE = 1

    class Other:
        pass

    checkpoint = dict(
        a=[np.float32(0.5), np.int64(3), np.bool_(True), np.str_('x'), np.longdouble(2), Kind.ONE],
        b=collections.deque([1, {2}]),
        c=np.arange(6.0, dtype='>f4').reshape(2, 3)[:, ::-1],
        d=np.array(['u', 'v']),
        e=collections.Counter('aab'),
        f=(nn.Parameter(torch.ones(1)), torch.float16, torch.device('cpu')),
        g=HistoryBuffer([1.5], [2]),
        h=Other(),
    )
    make_plain(checkpoint)
    assert contents(checkpoint) <= PLAIN | {nn.Parameter}
    assert checkpoint['a'] == [0.5, 3, True, 'x', 2.0, 1]
    assert checkpoint['b'] == [1, [2]] and checkpoint['d'] == ['u', 'v']
    assert checkpoint['c'].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert checkpoint['e'] == {'a': 2, 'b': 1}
    assert checkpoint['f'][1:] == ('torch.float16', 'cpu')
    assert checkpoint['g']['count_history'].tolist() == [2] and checkpoint['h'] is None
    (line,) = lines
    assert line == (logging.WARNING, 'Left out of the checkpoint, which holds plain data only: h (Other)')


def test_versions_of_modules_are_kept(run, tmp_path):
    run(epochs=1).train()
    state = load_checkpoint_file(tmp_path / 'epoch_1.pth')['state_dict']
    assert state._metadata['norm']['version'] == 2


def test_order(tmp_path):
    for name in ('epoch_2', 'epoch_10', 'epoch_9', 'iter_11', 'best_x_epoch_3'):
        (tmp_path / f'{name}.pth').touch()
    pointer = tmp_path / 'last_checkpoint'
    assert saved_checkpoints(tmp_path / 'nowhere') == []
    pointer.write_text('/gone/epoch_9.pth')
    order = ['epoch_9.pth', 'epoch_2.pth', 'iter_11.pth']
    assert [path.name for path in saved_checkpoints(tmp_path)] == order
    assert saved_checkpoints(tmp_path)[0].is_file()  # the folder was moved
    (tmp_path / 'epoch_9.pth').unlink()
    assert [path.name for path in saved_checkpoints(tmp_path)] == order
    for text in ('', '\0\0\0', 'epo'):
        pointer.write_text(text)
        found = [path.name for path in saved_checkpoints(tmp_path)]
        assert {'epoch_10.pth', 'epoch_2.pth', 'iter_11.pth'} <= set(found)
    pointer.unlink()
    assert len(saved_checkpoints(tmp_path)) == 3


class MakesAFolder:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_nothing_that_loads_through_mmengine_runs_code(tmp_path):
    made = tmp_path / 'made'
    file = tmp_path / 'bad.pth'
    torch.save({'state_dict': {'weight': torch.ones(2)}, 'meta': {'bad': MakesAFolder(made)}}, file)
    for source in (str(file), file, io.BytesIO(file.read_bytes())):
        loaded = mmengine_checkpoint._safe_torch_load(source)
        assert loaded['state_dict']['weight'].tolist() == [1, 1] and loaded['meta'] == {}
    assert CheckpointLoader.load_checkpoint(str(file)).keys() == {'state_dict', 'meta'}
    assert not made.exists()
    torch.load(file, weights_only=False)
    assert made.is_dir()  # it would have been
