"""Segmentors with one output channel, two classes told apart by a threshold: the right classes everywhere."""

import numpy as np
import pytest
import torch
from PIL import Image

from mvp_mm.datasets.transforms.decode_image import BACKGROUND
from mvp_mm.engine import build_runner, load_config, use_test_time_augmentation
from mvp_mm.evaluation.segment import load_segmentor, segment_image
from mvp_mm.visualization import draw_overlay

CONFIG = 'configs/upernet/vittiny_custom.py'
THRESHOLD = 0.55


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for kind, shape in (('images', (48, 64, 3)), ('annotations', (48, 64))):
            (tmp_path / kind / split).mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 256 if len(shape) == 3 else 2, shape, dtype=np.uint8)
                ending = 'jpg' if len(shape) == 3 else 'png'
                Image.fromarray(pixels).save(tmp_path / kind / split / f'{number}.{ending}')
    return tmp_path


@pytest.fixture
def cfg(folder, request):
    head = dict(out_channels=1, threshold=THRESHOLD)
    options = {f'model.decode_head.{key}': value for key, value in head.items()}
    options |= {f'model.auxiliary_head.{key}': value for key, value in head.items()}
    options |= {f'model.{part}.loss_decode.use_sigmoid': True for part in ('decode_head', 'auxiliary_head')}
    for phase in ('train', 'val', 'test'):
        options[f'{phase}_dataloader.dataset.data_root'] = str(folder)
        options[f'{phase}_dataloader.num_workers'] = 0
        options[f'{phase}_dataloader.persistent_workers'] = False
    options |= {'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 1, 'train_cfg.val_interval': 1}
    options |= {'default_hooks.checkpoint.interval': 1, 'auto_scale_lr.base_batch_size': 2}
    root = request.config.rootpath
    return load_config(str(root / CONFIG), str(folder / 'run'), 'none', options)


@pytest.mark.slow
def test_one_channel(cfg, folder):
    """Trained, validated, drawn and tested at several scales, as with a channel for each class."""
    runner = build_runner(cfg)
    runner.train()
    cfg.dump(folder / 'config.py')
    model = load_segmentor(str(folder / 'config.py'), str(folder / 'run/iter_1.pth'), 'cpu')
    with torch.no_grad():  # a map of probabilities on both sides of the threshold
        model.decode_head.conv_seg.weight.mul_(50)
    pixels = np.random.default_rng(1).integers(0, 256, (192, 192, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'photo.png')
    cfg.model.test_cfg.mode = model.test_cfg.mode = 'whole'
    model.cfg.test_pipeline[1].scale = (192, 192)
    image, labels = segment_image(model, folder / 'photo.png')

    share = pixels[..., 3:] / 255
    assert np.abs(image - (share * pixels[..., :3] + (1 - share) * BACKGROUND)).max() <= 1
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    inputs = (torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std
    with torch.no_grad():
        logits = model.encode_decode(inputs[None], [dict(img_shape=(192, 192))])
    expected = (logits[0, 0].sigmoid() > THRESHOLD).numpy()
    assert labels.dtype == np.int64 and set(np.unique(labels)) == {0, 1}
    assert (labels == expected).mean() > 0.999
    draw_overlay(image, labels, ('background', 'object'), ([0, 0, 0], [255, 0, 0]))


def test_one_channel_at_several_scales(cfg, monkeypatch):
    """The mean of the sigmoids against the threshold; mmseg alone takes the sigmoid of the sigmoid."""
    use_test_time_augmentation(cfg)
    runner = build_runner(cfg)
    for value, label in ((-3.0, 0), (0.1, 0), (0.3, 1), (40.0, 1)):  # sigmoid: 0.05, 0.525, 0.574, 1

        def logits(inputs, metas, value=value):
            return inputs.new_full((len(inputs), 1, *inputs.shape[2:]), value)

        monkeypatch.setattr(runner.model.module, 'encode_decode', logits)
        for batch in runner.test_dataloader:
            (sample,) = runner.model.test_step(batch)
            merged = sample.pred_sem_seg.data
            assert merged.shape[-2:] == (48, 64) and (merged == label).all(), value
    assert set(runner.test()) >= {'mIoU'}
