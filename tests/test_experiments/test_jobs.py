"""How jobs of an experiment are done, and what is kept of them; tables."""

import json
import sys

import pytest

from experiments.jobs import do_job, figures_of, result_file
from experiments.tables import markdown, mean_and_spread


def test_figures_are_kept_all_or_none(tmp_path, monkeypatch):
    job = dict(name='one', needs=['other'], seed=3)
    monkeypatch.setattr(sys, 'argv', ['work', json.dumps(job), '2h', str(tmp_path), 'data'])
    told = []

    def do(fields, args):
        told.append((fields, args.length, args.more))
        if len(told) == 1:
            raise RuntimeError('the power fails')
        return dict(top1=50.0)

    with pytest.raises(RuntimeError, match='power'):
        do_job('Do it.', do)
    assert not result_file(tmp_path, 'one').exists()
    do_job('Do it.', do)
    assert told[1] == (dict(job, needs=('other',)), '2h', ['data'])
    assert figures_of(tmp_path, 'one') == dict(top1=50.0)
    assert [path.name for path in tmp_path.iterdir()] == ['one.json']


def test_tables():
    assert mean_and_spread([]) == '' and mean_and_spread([2.04]) == '2.0'
    assert mean_and_spread([1.0, 2.0, 3.0], digits=2) == '2.00 ± 1.00'
    assert markdown(['a', 'b'], {'x': ['1', ''], 'y': ['', '2']}).splitlines() == [
        '| | a | b |',
        '|---|---|---|',
        '| x | 1 |  |',
        '| y |  | 2 |',
    ]
