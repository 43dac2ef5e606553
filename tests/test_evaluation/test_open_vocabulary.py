"""Segmentation by names, against the protocol written out, and on maps made by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmpretrain.registry import MODELS
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchrun_jobs import forked

from mvp_mm.datasets import segmentation  # noqa: F401  (registers CamVid)
from mvp_mm.engine.distributed.process_group import begin_process_group
from mvp_mm.evaluation import OpenVocabulary
from mvp_mm.models.data_preprocessor import MVPDataPreprocessor
from mvp_mm.models.speaking.class_embeddings import ClassEmbeddings
from mvp_mm.text.class_names import class_names

from ..conftest import SHARED
from .conftest import speaking_config

CLASSES = ['sky, cloud', 'grass', 'dog, puppy, hound', 'wall']


def collate(samples):
    return {name: [sample[name] for sample in samples] for name in samples[0]}


def sample_of(image, truth):
    """An image as mmseg loads and packs it: BGR."""
    label_map = PixelData(data=torch.as_tensor(truth)[None])
    return dict(inputs=image.flip(0), data_samples=SegDataSample(gt_sem_seg=label_map))


def random_samples(sizes, classes=4):
    """Smooth RGB images of the sizes, and label maps of sizes that differ from theirs."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for height, width in sizes:
        coarse = torch.rand(1, 3, 5, 6, generator=generator)
        image = (F.interpolate(coarse, (height, width), mode='bicubic').clamp(0, 1)[0] * 255).to(torch.uint8)
        truth = torch.randint(0, classes, (height + 7, 2 * width - 3), generator=generator)
        truth[:5] = 255
        pairs.append((image, truth))
    return pairs


def written_out(model, image, classes, size, templates='plain', window=32, stride=16):
    """Classes ``(H, W)`` by the protocol, a window at a time: RGB image ``(3, H, W)``, 0 to 255."""
    groups = [[name.strip() for name in entry.split(',')] for entry in classes]
    names = [name for group in groups for name in group]
    vectors = torch.stack([model.text_tower.class_embeddings([n], templates).vectors[0] for n in names])
    image = (image.float() - model.data_preprocessor.mean) / model.data_preprocessor.std
    height, width = image.shape[1:]
    total, count = torch.zeros(len(names), height, width), torch.zeros(height, width)
    tops = sorted({min(top, max(height - window, 0)) for top in range(0, height, stride)})
    lefts = sorted({min(left, max(width - window, 0)) for left in range(0, width, stride)})
    for top in tops:
        for left in lefts:
            crop = image[:, top : top + window, left : left + window]
            h, w = crop.shape[1:]
            rows, cols = -(-h // 8), -(-w // 8)
            whole = torch.zeros(1, 3, 8 * rows, 8 * cols)
            whole[0, :, :h, :w] = crop
            with torch.no_grad():
                tokens = model.neck(model.backbone(whole)[-1])[0, 1:]
            cosines = (tokens / tokens.norm(dim=1, keepdim=True)) @ vectors.T
            cosines = F.interpolate(cosines.T.reshape(1, -1, rows, cols), whole.shape[2:], mode='bilinear')
            total[:, top : top + h, left : left + w] += cosines[0, :, :h, :w]
            count[top : top + h, left : left + w] += 1
    cosines = F.interpolate((total / count)[None], size, mode='bilinear')[0]
    weights = (40 * cosines).exp() / (40 * cosines).exp().sum(0)
    ends = np.cumsum([len(group) for group in groups])
    starts = [0, *ends[:-1]]
    scores = [weights[start:end].amax(0) for start, end in zip(starts, ends, strict=True)]
    return torch.stack(scores).argmax(0)


def figures(pairs, classes):
    """mIoU, mAcc and aAcc in percent of ``(found, truth)``, counted pixel by pixel in NumPy."""
    confusion = np.zeros((classes, classes))
    for found, truth in pairs:
        found, truth = np.asarray(found).ravel(), np.asarray(truth).ravel()
        np.add.at(confusion, (truth[truth != 255], found[truth != 255]), 1)
    right, of_truth, of_found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid='ignore'):
        iou, accuracy = right / (of_truth + of_found - right), right / of_truth
    values = dict(aAcc=right.sum() / confusion.sum(), mIoU=np.nanmean(iou), mAcc=np.nanmean(accuracy))
    return {name: round(100 * float(value), 2) for name, value in values.items()}


# Larger than a window, with and without a whole number of strides; smaller than one in one side, in both.
SIZES = [(48, 64), (43, 57), (32, 32), (20, 45), (21, 30)]


def test_the_protocol_written_out(speaker):
    pairs = random_samples(SIZES)
    loader = DataLoader([sample_of(*pair) for pair in pairs], 1, collate_fn=collate)
    found = OpenVocabulary(loader, CLASSES, templates='plain').evaluate(speaker)
    labels = [written_out(speaker, image, CLASSES, truth.shape) for image, truth in pairs]
    assert len(torch.cat([one.flatten() for one in labels]).unique()) > 2
    expected = figures(zip(labels, [truth for _, truth in pairs], strict=True), 4)
    assert found == pytest.approx(expected, abs=0.011)


def test_windows_and_strides_are_options(speaker):
    pairs = random_samples([(48, 64)])
    loader = DataLoader([sample_of(*pair) for pair in pairs], 1, collate_fn=collate)
    options = dict(templates='plain', window=24, stride=8)
    found = OpenVocabulary(loader, CLASSES, **options).evaluate(speaker)
    labels = [written_out(speaker, image, CLASSES, truth.shape, **options) for image, truth in pairs]
    expected = figures([(labels[0], pairs[0][1])], 4)
    assert found == pytest.approx(expected, abs=0.011)
    assert found != OpenVocabulary(loader, CLASSES, templates='plain').evaluate(speaker)


class Tower:
    """Of three colours: a name's vector is its axis."""

    axes = dict(red=0, green=1, blue=2)

    def to(self, device):
        return self

    def class_embeddings(self, names, templates):
        self.asked = list(names)
        return ClassEmbeddings.of(
            torch.stack([torch.eye(3)[self.axes[name]] for name in names]), [[n] for n in names]
        )


class Colours(nn.Module):
    """A speaker whose patches are their mean colours."""

    patch_size, image_size = 4, (8, 8)
    text_tower = Tower()

    def __init__(self):
        super().__init__()
        self.data_preprocessor = MVPDataPreprocessor(mean=(0, 0, 0), std=(1, 1, 1))
        self.image_mean = self.data_preprocessor.mean

    def embed_image(self, images):
        return None, F.avg_pool2d(images, 4).flatten(2).transpose(1, 2)


def painted(colours):
    """An 8x8 image, RGB, whose halves (left, right) have the colours."""
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for half, colour in enumerate(colours):
        image[:, :, 4 * half : 4 * half + 4] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return image


RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def evaluate(image, truth, names, **options):
    loader = DataLoader([sample_of(image, truth)], 1, collate_fn=collate)
    return OpenVocabulary(loader, names, **options).evaluate(Colours())


def halves(left, right):
    return torch.tensor([[left] * 4 + [right] * 4] * 8)


def test_ignored_pixels_do_not_count():
    image = painted([RED, GREEN])
    assert evaluate(image, halves(0, 1), ['red', 'green'])['mIoU'] == 100.0
    truth = halves(0, 255)  # whatever is found there
    assert evaluate(image, truth, ['red', 'blue']) == dict(aAcc=100.0, mIoU=100.0, mAcc=100.0)
    assert evaluate(image, halves(1, 255), ['red', 'blue'])['aAcc'] == 0.0


def test_images_are_bgr_as_mmseg_loads_them():
    assert evaluate(painted([RED, RED]), halves(1, 1), ['blue', 'red'])['aAcc'] == 100.0


def test_a_background_without_threshold_is_ignored_and_not_asked_for():
    """VOC20 out of VOC21, and the scenes, of whose words none is 'background'."""
    image, names = painted([GREEN, RED]), ['background', 'red', 'green']
    assert evaluate(image, halves(2, 0), names, background=0) == dict(aAcc=100.0, mIoU=100.0, mAcc=100.0)
    assert Colours.text_tower.asked == ['red', 'green']
    # of another place than the first, too
    assert evaluate(image, halves(0, 1), ['green', 'background', 'red'], background=1)['aAcc'] == 100.0


def test_background_by_threshold():
    """Grey is as near to any colour: each has a third of the probability.

    Bilinear cosines: of the grey half's four columns, the two between the patches' centres are redder.
    """
    image, names = painted([RED, (90, 90, 90)]), ['red', 'green', 'blue']
    for threshold, right in ((0.33, 50.0), (0.34, 75.0), (0.98, 75.0), (0.99, 87.5)):
        found = evaluate(image, halves(0, 2), names, background=2, threshold=threshold)
        assert found['aAcc'] == right, threshold
    # the number of the background is the dataset's
    assert evaluate(image, halves(0, 1), names, background=1, threshold=0.34)['aAcc'] == 75.0
    assert evaluate(image, halves(0, 0), names, background=0, threshold=1.1)['aAcc'] == 100.0


def test_a_class_that_is_nowhere_does_not_count():
    found = evaluate(painted([RED, GREEN]), halves(0, 1), ['red', 'green', 'blue'])
    assert found == dict(aAcc=100.0, mIoU=100.0, mAcc=100.0)


def test_wrong_options():
    loader = DataLoader([sample_of(painted([RED, RED]), halves(0, 0))], 1, collate_fn=collate)
    with pytest.raises(ValueError, match='threshold=0.1: expected also the number of the background class'):
        OpenVocabulary(loader, ['red', 'green'], threshold=0.1)
    with pytest.raises(ValueError, match='background=2 is none of the 2 classes'):
        OpenVocabulary(loader, ['red', 'green'], background=2)
    bare = [dict(inputs=painted([RED, RED]), data_samples=SegDataSample())]
    with pytest.raises(ValueError, match='an image has none: put LoadAnnotations behind Resize'):
        OpenVocabulary(DataLoader(bare, 1, collate_fn=collate), ['red', 'green']).evaluate(Colours())


def evaluated(clip):
    begin_process_group('pytorch', dict(backend='gloo'))
    return evaluated_alone(clip)


def evaluated_alone(clip):
    torch.manual_seed(7)
    model = MODELS.build(speaking_config(clip)).eval()
    loader = DataLoader([sample_of(*pair) for pair in random_samples(SIZES)], 1, collate_fn=collate)
    return OpenVocabulary(loader, CLASSES, templates='plain', of='both').evaluate(model)


def test_two_processes_find_what_one_does(clip, tmp_path, monkeypatch):
    """Five images: three of one process, two of the other, which have other numbers of windows."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    expected = evaluated_alone(clip)
    assert expected['gap_mIoU'] == expected['teacher_mIoU'] - expected['mIoU'] != 0
    assert forked(evaluated, clip) == [expected, expected]


@pytest.mark.parametrize('of', ['student', 'teacher'])
def test_camvid_by_names(speaker, of):
    """Street scenes from files through mmseg's pipeline, against the files read and counted here."""
    if not (folder := SHARED / 'data' / 'camvid').is_dir():
        pytest.skip('CamVid is not beside the project')
    pipeline = [
        dict(type='LoadImageFromFile', _scope_='mvp_mm'),
        dict(type='Resize', scale=(2048, 48), keep_ratio=True),
        dict(type='mmseg.LoadAnnotations'),
        dict(type='mmseg.PackSegInputs'),
    ]
    parts = dict(img_path='images/val', seg_map_path='annotations/val')
    config = dict(type='mmseg.CamVidDataset', data_root=str(folder), data_prefix=parts, pipeline=pipeline)
    dataset = DATASETS.build(dict(config, indices=3))
    names = class_names('camvid')
    loader = DataLoader(dataset, 1, collate_fn=collate)
    found = OpenVocabulary(loader, 'camvid', templates='plain', of=of).evaluate(speaker)
    if of == 'teacher':
        assert set(found) == {'teacher_mIoU', 'teacher_mAcc', 'teacher_aAcc'}
        return
    pairs = []
    for index in range(3):
        info = dataset.get_data_info(index)
        image = cv2.cvtColor(cv2.imread(info['img_path']), cv2.COLOR_BGR2RGB)
        image = torch.from_numpy(cv2.resize(image, (64, 48))).permute(2, 0, 1)
        truth = cv2.imread(info['seg_map_path'], cv2.IMREAD_UNCHANGED)
        truth = np.where(truth == 11, 255, truth)
        assert Path(info['img_path']).stem == Path(info['seg_map_path']).stem and truth.shape == (360, 480)
        pairs.append((written_out(speaker, image, names, truth.shape), truth))
    assert found == pytest.approx(figures(pairs, 11), abs=0.011)
