import json

from experiments.miniature.rank import runs_in
from experiments.miniature.ranking import Run


def test_runs_are_those_with_figures_after_a_tenth_and_a_segmentation(tmp_path):
    early = {'alignment/cls_rank': 3.0, 'alignment/target_cls_rank': 9.0, 'alignment/cls_constant': 0.5}
    early['knn_shape/top1_k20'] = 20.0
    (tmp_path / 'watch-clip-kk-s1.json').write_text(json.dumps({'1': early, '10': {}, 'seconds': 2.0}))
    (tmp_path / 'watch-dino-s0.json').write_text(json.dumps({'1': early}))
    (tmp_path / 'watch-scratch-s0.json').write_text(json.dumps({'0': early}))
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'segment-clip-kk-s1-n300.json').write_text(json.dumps(dict(miou=31.0)))
    (other / 'segment-scratch-s0-n300.json').write_text(json.dumps(dict(miou=24.0)))
    assert runs_in([tmp_path], [tmp_path, other]) == [Run('clip-kk', 1, {'cls_rank': 3.0}, 31.0)]
