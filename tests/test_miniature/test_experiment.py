"""The experiment's plan, its table, and how pieces are started."""

import json

import pytest

from mvp_mm.miniature.plan import GUIDANCES, LENGTHS, MAIN, Length, Piece, plan
from mvp_mm.miniature.report import collect, table
from mvp_mm.miniature.run import run_pieces

TINY = Length((0,), (4,), 128, 1, 10, (1e-3, 2e-3), frozen=True)


@pytest.mark.parametrize('length', list(LENGTHS))
def test_every_piece_comes_after_what_it_needs(length):
    settings = LENGTHS[length]
    pieces = plan(list(GUIDANCES), settings.seeds, settings.labels, settings)
    names = [piece.name for piece in pieces]
    assert len(set(names)) == len(names)
    for number, piece in enumerate(pieces):
        assert set(piece.needs) <= set(names[:number]), piece
    segmentations = [p for p in pieces if p.name.startswith('segment-scratch')]
    assert len(segmentations) == len(settings.seeds) * len(settings.labels)


def test_unknown_guidance():
    with pytest.raises(ValueError, match='unknown guidance magic; there are scratch, pixel'):
        plan(['magic'], [0], [4], TINY)


def test_table_of_several_seeds(tmp_path):
    pieces = [Piece(f'segment-clip-s{seed}-n300', 'segment', 'clip', seed, labels=300) for seed in (0, 1)]
    for piece, value in zip(pieces, (30.0, 34.0), strict=True):
        (tmp_path / f'{piece.name}.json').write_text(json.dumps(dict(miou=value)))
    assert '| clip | 32.0 ± 2.8 |' in table(collect(pieces, tmp_path))


def test_a_folder_is_of_one_length_and_done_pieces_stay_done(tmp_path):
    pieces = plan(MAIN, (0,), (300,), LENGTHS['10min'])
    for piece in pieces:
        (tmp_path / f'{piece.name}.json').write_text('{}')
    run_pieces(pieces, '10min', tmp_path, jobs=2)  # nothing to do
    with pytest.raises(ValueError, match="holds an experiment of length '10min'"):
        run_pieces(pieces, '1h', tmp_path, jobs=2)


def test_a_piece_that_fails_is_named_with_its_log(tmp_path):
    piece = Piece('segment-clip-s0-n4', 'segment', 'clip', 0, labels=4, rate=1e-3)  # its student is missing
    with pytest.raises(RuntimeError, match='segment-clip-s0-n4 ended with status 1.*'):
        run_pieces([piece], '10min', tmp_path, jobs=1)
