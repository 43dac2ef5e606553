"""COCO's files are read by mmdet, and draws follow the index."""

import json

import numpy as np
import pytest

pytest.importorskip('mmdet', reason='mmdet is not installed: mvp_mm[detection]')

from coco_files import CLASSES, SIZES, write_coco  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from mvp_mm.datasets import SampleIndex  # noqa: E402
from mvp_mm.datasets.detection import CocoImages  # noqa: E402

PIPELINE = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomResize',
        scale=(64, 64),
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
        resize_type='mmdet.Resize',
    ),
    dict(
        type='mmdet.RandomCrop',
        crop_type='absolute',
        crop_size=(32, 32),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type='mmdet.PackDetInputs'),
]


@pytest.fixture
def build(tmp_path):
    write_coco(tmp_path / 'coco')

    def of(**kwargs):
        keys = dict(
            data_root=str(tmp_path / 'coco'),
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017'),
            metainfo=dict(classes=CLASSES),
            pipeline=PIPELINE,
        )
        with DefaultScope.overwrite_default_scope('mmdet'):
            return CocoImages(**{**keys, **kwargs})

    return of


def test_instances(build):
    images = build()
    assert len(images) == len(SIZES) and images.cat_ids == [7, 3]
    info = images.get_data_info(1)
    assert (info['height'], info['width']) == SIZES[1]
    assert [instance['bbox_label'] for instance in info['instances']] == [0, 1]
    box = info['instances'][1]['bbox']
    corners = np.reshape(info['instances'][1]['mask'][0], (-1, 2))
    assert box == [*corners.min(0), *corners.max(0)]


def test_draws_follow_seed_epoch_and_index(build):
    images = build()
    samples = [images[SampleIndex(1, epoch, 5)] for epoch in (0, 0, 1)]
    np.random.rand(3)
    samples.append(build()[SampleIndex(1, 0, 5)])
    first, again, other, built_anew = ([s['inputs'].shape, s['data_samples'].scale_factor] for s in samples)
    assert first == again == built_anew != other
    assert (samples[0]['inputs'] == samples[3]['inputs']).all()


def test_a_crop_without_instances_stays(build):
    """Another image, drawn from the worker's state, would take its place."""
    images = build()
    found = {len(images[SampleIndex(2, epoch, 0)]['data_samples'].gt_instances) for epoch in range(25)}
    assert 0 in found and found & {1, 2}


def test_what_is_wrong_is_said(build, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no annotation file .*/no.json .*data_root'):
        build(ann_file='no.json')
    with pytest.raises(ValueError, match=r'has 0 of the 80 classes \(person, ...\): name its categories'):
        build(metainfo=None)
    path = tmp_path / 'coco/annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    content['categories'][0]['name'] = 'ring'
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='has 1 of the 2 classes'):
        build()
