import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.io
from PIL import Image

from mvp_mm.datasets import (
    EncodedCrop,
    FastCrop,
    PackMaskedInputs,
    UnlabelledImages,
    UnreadableImageError,
    collate_encoded,
)
from mvp_mm.engine import DeviceCropPreprocessor, build_runner, load_config

pytest.importorskip('simplejpeg', reason='simplejpeg has no wheel for this platform')
CONFIG = Path(__file__).parents[2] / 'configs/mvp/vittiny_debug.py'
MASK = np.zeros((4, 4), bool)
EXACT = dict(mean=[0, 0, 0], std=[1, 1, 1])


def batch_of(paths, size=64, seed=0):
    """What a loader gives, and the same draws' crops by FastCrop."""
    pack, samples, crops = PackMaskedInputs(), [], []
    for number, path in enumerate(paths):
        for kind in (EncodedCrop(size), FastCrop(size, plain=True)):
            random.seed(seed + number)
            packed = pack(kind(dict(img_path=str(path), sample_idx=number, mask=MASK)))
            if isinstance(kind, EncodedCrop):
                samples.append(packed)
            else:
                crops.append(packed['inputs'])
    return collate_encoded(samples), torch.stack(crops)


def write(path, mode='RGB', **options):
    coarse = np.random.default_rng(len(path.name)).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((150, 110), Image.Resampling.BICUBIC)
    image.convert(mode).save(path, **options)
    return path


def assert_crops(batch, expected, mean=0.5, largest=6):
    out = DeviceCropPreprocessor(expected.shape[-1], **EXACT)(batch)
    found = out['inputs']
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    difference = (found - expected).abs()
    assert difference.max() <= largest
    assert difference.mean() < mean
    assert (difference > 2).float().mean() < 0.003
    assert out['mask'].shape == (len(expected), 4, 4)
    return out


def test_crops_are_those_of_the_same_draws(image_folder):
    paths = sorted(image_folder.rglob('*.jpg'))
    batch, expected = batch_of(paths * 3)
    assert batch['inputs'].numel() == 3 * sum(path.stat().st_size for path in paths)
    out = assert_crops(batch, expected)
    assert [sample.img_path for sample in out['data_samples']] == [str(path) for path in paths * 3]


def test_photographs(photographs):
    dataset = UnlabelledImages(str(photographs))
    paths = [dataset.get_data_info(number)['img_path'] for number in range(0, 400, 10)]
    assert_crops(*batch_of(paths, 224), mean=0.4, largest=24)


def test_all_kinds_of_files(tmp_path):
    paths = [
        write(tmp_path / 'colours.jpg'),
        write(tmp_path / 'grey.jpg', 'L'),
        write(tmp_path / 'cmyk.jpg', 'CMYK'),
        write(tmp_path / 'lossless.png'),
        write(
            tmp_path / 'turned.jpg',
            exif=b'Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03'
            b'\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00',
        ),
    ]
    batch, expected = batch_of(paths)
    assert ['crop_draw' in sample for sample in batch['data_samples']] == [True, True, False, False, False]
    assert_crops(batch, expected, largest=4)


@pytest.fixture
def refuses(monkeypatch):
    """A decoder that takes no file of this many bytes, as nvJPEG's own choice of files cannot be had here."""
    decode = torchvision.io.decode_jpeg

    def refuse(length):
        def picky(files, *args, **kwargs):
            if any(len(file) == length for file in files):
                raise RuntimeError('nvjpegDecode failed')
            return decode(files, *args, **kwargs)

        monkeypatch.setattr(torchvision.io, 'decode_jpeg', picky)

    return refuse


def test_pillow_reads_what_the_device_refuses(image_folder, refuses):
    paths = sorted(image_folder.rglob('*.jpg'))
    refuses(paths[2].stat().st_size)
    out = assert_crops(*batch_of(paths))
    assert not any('unreadable' in sample for sample in out['data_samples'])


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def test_an_unreadable_image_is_replaced_and_named(image_folder, refuses):
    """Its headers are those of an ordinary file, and no decoder takes the rest."""
    paths = sorted(image_folder.rglob('*.jpg'))
    batch, expected = batch_of(paths)
    refuses(paths[1].stat().st_size)
    cut(paths[1])
    expected[1] = expected[1 % (len(paths) - 1) + 1]  # its place among the readable ones
    out = assert_crops(batch, expected)
    ((path, reason),) = out['data_samples'][1].unreadable
    assert path == str(paths[1])
    assert 'truncated' in reason


def test_nothing_readable(image_folder, refuses):
    paths = sorted(image_folder.rglob('*.jpg'))[:1] * 2
    batch, _ = batch_of(paths)
    refuses(paths[0].stat().st_size)
    cut(paths[0])
    with pytest.raises(
        UnreadableImageError, match=r'no image of a batch can be read\n.*0000.jpg: .*truncated'
    ):
        DeviceCropPreprocessor(64)(batch)


def test_a_cut_file_is_the_workers(image_folder):
    path = min(image_folder.rglob('*.jpg'))
    cut(path)
    with pytest.raises(UnreadableImageError):
        EncodedCrop(64)(dict(img_path=str(path)))


def test_bad_settings(tmp_path, monkeypatch):
    batch, _ = batch_of([write(tmp_path / 'a.png')])
    with pytest.raises(ValueError, match=r'12288 bytes is not of size=\(32, 32\).*the same size'):
        DeviceCropPreprocessor(32)(batch)
    monkeypatch.delattr(torchvision.io, 'decode_jpeg')
    with pytest.raises(ImportError, match='no decode_jpeg.*use FastCrop'):
        DeviceCropPreprocessor(32)


def test_other_batches_are_as_ever():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(DeviceCropPreprocessor(64, **EXACT)(dict(inputs=images))['inputs'], images.float())


def test_a_run(image_folder, tmp_path):
    """Through loader, runner and hook, with a bad image: the losses are nearly those of FastCrop."""
    cut(min(image_folder.rglob('*.jpg')))
    losses = {}
    for kind in ('device', 'loader'):
        cfg = load_config(
            str(CONFIG),
            str(tmp_path / kind),
            cfg_options={
                'train_dataloader.dataset.data_root': str(image_folder),
                'train_dataloader.batch_size': 4,
                'train_dataloader.num_workers': 1,
                'train_dataloader.sampler.total_batch': 4,
                'auto_scale_lr.base_batch_size': 4,
                'model.backbone.arch.num_layers': 1,
                'train_cfg.max_epochs': 1,
                'visualizer.vis_backends': [],
            },
        )
        cfg.custom_hooks = [dict(type='UnreadableImagesHook', max_share=0.2)]
        if kind == 'device':
            cfg.model.data_preprocessor = dict(type='DeviceCropPreprocessor', size=64)
            cfg.train_dataloader.dataset.pipeline[0].type = 'EncodedCrop'
            cfg.train_dataloader.collate_fn = dict(type='collate_encoded')
        runner = build_runner(cfg)
        runner.train()
        losses[kind] = runner.message_hub.get_scalar('train/loss').data[0]
        assert '0000.jpg' in (tmp_path / kind / 'bad_images.txt').read_text()
    assert losses['device'].size == 2
    assert losses['device'] == pytest.approx(losses['loader'], abs=2e-3)
