"""Everything plain in a file, and nothing else, whatever the file holds."""

import collections
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mvp_mm.weights.read import read_checkpoint, read_tensors


class Bomb:
    """Creates a file when it is unpickled as pickles usually are."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize('new', [True, False])
def test_plain_values_among_others(new, tmp_path):
    norm = torch.nn.BatchNorm1d(2).state_dict()
    array = np.arange(6.0).reshape(2, 3)
    saved = dict(
        state_dict=norm,
        history=HistoryBuffer([1.0, 2.5], [1, 3]),
        none_yet=HistoryBuffer(),
        numbers=[np.float64(0.5), np.int64(-4), np.bool_(True), np.float16(2)],
        arrays=(array, np.asfortranarray(array), array.astype('>f4'), np.arange(0)),
        text='a',
        content=b'\x00\xff',
        left_out=Path('a'),
        function=os.system,
        kind=HistoryBuffer,
        dates=np.array(['2020-01-01'], 'M8[D]'),
        objects=np.array([None, 1]),
        queue=collections.deque([1]),
        bomb=Bomb(tmp_path / 'created'),
        among=[1, Path('a'), Bomb(tmp_path / 'created'), 2],
    )
    path = tmp_path / 'a.pth'
    torch.save(saved, path, _use_new_zipfile_serialization=new)
    found = read_checkpoint(path)
    assert found['state_dict'].keys() == norm.keys() and found['state_dict']._metadata == norm._metadata
    assert read_tensors(path).keys() == norm.keys()
    history = found['history']
    assert history['log_history'].tolist() == [1.0, 2.5] and history['count_history'].tolist() == [1, 3]
    assert history['max_length'] == 1000000 and found['none_yet']['log_history'].shape == (0,)
    assert found['numbers'] == [0.5, -4, True, 2.0] and type(found['numbers'][1]) is int
    for read, written in zip(found['arrays'], saved['arrays'], strict=True):
        assert read.tolist() == written.tolist()
    assert (found['text'], found['content']) == ('a', b'\x00\xff')
    assert not {'left_out', 'function', 'kind', 'queue', 'bomb'} & found.keys()
    assert found['dates'] is None and found['objects'] is None
    assert found['among'] == [1, None, None, 2]
    assert not (tmp_path / 'created').exists()


def test_broken_pickles_end_in_one_kind_of_error(tmp_path):
    """Bytes changed at random: read, or refused, and never anything else."""
    history = HistoryBuffer([1.0, 2.5], [1, 3])
    whole = pickle.dumps(dict(a=history, b=np.arange(3), c=Bomb(tmp_path / 'created')), protocol=2)
    path = tmp_path / 'a.pth'
    draw = random.Random(0)
    outcomes = collections.Counter()
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            content[draw.randrange(2, len(content))] = draw.randrange(256)
        path.write_bytes(content)
        try:
            read_checkpoint(path)
        except ValueError as error:
            assert '\n' not in str(error) and '(101)' not in str(error)
            outcomes['refused'] += 1
        else:
            outcomes['read'] += 1
    assert outcomes['refused'] and not (tmp_path / 'created').exists()
