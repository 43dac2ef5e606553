"""k-NN against brute force, one image at a time in plain Python, and against scikit-learn."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchrun_jobs import forked

from mvp_mm.evaluation import KNN, knn
from mvp_mm.evaluation.knn import KS, TEMPERATURE, feature_datasets, innermost, knn_accuracy

ROOT = Path(__file__).parents[2]
CLASSES = 7


def clusters(count, seed, width=16, noise=1.2):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(CLASSES, (count,), generator=generator)
    features = centres[labels] + noise * torch.randn(count, width, generator=generator)
    return F.normalize(features, dim=1), labels


@pytest.fixture(scope='module')
def data():
    return *clusters(300, 0), *clusters(80, 1)


def brute_force(train, train_labels, queries, query_labels, k):
    """Shares of queries whose class is first, and among the first five."""
    top1 = top5 = 0
    for query, label in zip(queries.double().tolist(), query_labels.tolist(), strict=True):
        cosines = [sum(a * b for a, b in zip(query, row, strict=True)) for row in train.double().tolist()]
        nearest = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]
        votes = [0.0] * CLASSES
        for i in nearest:
            votes[int(train_labels[i])] += math.exp(cosines[i] / 0.07)
        ranked = sorted(range(CLASSES), key=lambda c: -votes[c])
        top1 += ranked[0] == label
        top5 += label in ranked[:5] and votes[label] > 0
    return 100 * top1 / len(queries), 100 * top5 / len(queries)


def test_protocol_is_dinos():
    assert KS == (10, 20, 100, 200) and TEMPERATURE == 0.07


def test_equals_brute_force(data):
    accuracies = knn_accuracy(*data)
    assert [accuracy.k for accuracy in accuracies] == [10, 20, 100, 200]
    for accuracy in (accuracies[0], accuracies[3]):
        expected = brute_force(*data, accuracy.k)
        assert 30 < expected[0] < 95  # neither chance nor trivial, so that it can tell errors
        assert (accuracy.top1, accuracy.top5) == pytest.approx(expected), accuracy.k


def test_there_is_no_top5_of_five_classes(data):
    train, train_labels, queries, query_labels = data
    few = knn_accuracy(train, train_labels % 5, queries, query_labels % 5, ks=[10])
    assert few[0].top5 is None and 'top-5' not in str(few[0])
    assert 'top-5' in str(knn_accuracy(*data, ks=[10])[0])


def test_equals_sklearn(data):
    neighbors = pytest.importorskip('sklearn.neighbors')
    train, train_labels, queries, query_labels = data
    for accuracy in knn_accuracy(*data):
        classifier = neighbors.KNeighborsClassifier(
            accuracy.k, metric='cosine', algorithm='brute', weights=lambda d: np.exp((1 - d) / 0.07)
        )
        predicted = classifier.fit(train.numpy(), train_labels.numpy()).predict(queries.numpy())
        assert accuracy.top1 == pytest.approx(100 * np.mean(predicted == query_labels.numpy()))


@pytest.mark.parametrize('query_chunk,train_chunk', [(1, 7), (13, 64), (80, 299), (1000, 1)])
def test_chunks_do_not_matter(data, query_chunk, train_chunk):
    chunked = knn_accuracy(*data, query_chunk=query_chunk, train_chunk=train_chunk)
    assert chunked == knn_accuracy(*data)


def test_float16_features(data):
    train, train_labels, queries, query_labels = data
    halved = knn_accuracy(train.half(), train_labels, queries.half(), query_labels)
    for half, full in zip(halved, knn_accuracy(*data), strict=True):
        assert half.top1 == pytest.approx(full.top1, abs=100 / 80)  # one query at most


def test_k_beyond_the_training_set(data, monkeypatch):
    lines = []
    monkeypatch.setattr(knn, 'print_log', lambda message, *args: lines.append(message))
    train, train_labels, queries, query_labels = data
    accuracies = knn_accuracy(train[:50], train_labels[:50], queries, query_labels)
    assert [accuracy.k for accuracy in accuracies] == [10, 20]
    assert lines == [f'{k}-NN is skipped: there are 50 training images' for k in (100, 200)]
    with pytest.raises(ValueError, match='no k of .* between 1 and 5'):
        knn_accuracy(train[:5], train_labels[:5], queries, query_labels)


def test_shapes_are_checked(data):
    train, train_labels, queries, query_labels = data
    with pytest.raises(ValueError, match='queries: expected features'):
        knn_accuracy(train, train_labels, queries[:, :, None], query_labels)
    with pytest.raises(ValueError, match='width 16 and 15'):
        knn_accuracy(train, train_labels, queries[:, :15], query_labels)


class Grey(torch.nn.Module):
    """A student whose CLS token is an image's mean colour, and whose patches are their own."""

    img_size, patch_size, embed_dims = (8, 8), 4, 3

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def data_preprocessor(self, batch, training):
        return batch

    def encode_image(self, images, mask=None):
        patches = self.scale * F.avg_pool2d(images, 4).flatten(2).transpose(1, 2)
        return patches.mean(1), patches


def loader_of(images, labels, batch=3):
    samples = [
        dict(inputs=image, data_samples=DataSample().set_gt_label(int(label)))
        for image, label in zip(images, labels, strict=True)
    ]
    return DataLoader(samples, batch, collate_fn=pseudo_collate_stacked)


def pseudo_collate_stacked(samples):
    return dict(
        inputs=torch.stack([sample['inputs'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )


def test_any_student_is_evaluated():
    """By ``encode_image`` and nothing else."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 3
    colours = torch.eye(3)[labels][:, :, None, None] + 0.1 * torch.rand(12, 3, 8, 8, generator=generator)
    train, queries = loader_of(colours[:9], labels[:9]), loader_of(colours[9:], labels[9:])
    for pool in ('avg', 'cls'):
        assert KNN(queries, train, ks=[3], pool=pool).evaluate(Grey()) == dict(top1_k3=100.0), pool
    features, found = KNN(queries, train).features(Grey(), train)
    mean = F.avg_pool2d(colours[:9], 8).flatten(1)
    assert torch.allclose(features, F.normalize(F.layer_norm(mean, (3,), eps=1e-6), dim=1), atol=1e-6)
    assert found.tolist() == labels[:9].tolist()
    with pytest.raises(ValueError, match='none of'):
        KNN(queries, train, pool='max')


def evaluated(images, labels, size):
    """By the evaluator: 9 training images in batches of 4, and ``size`` queries in batches of 2."""
    train, queries = loader_of(images[:9], labels[:9], 4), loader_of(images[-size:], labels[-size:], 2)
    return KNN(queries, train, ks=[3]).evaluate(Grey())


def of_a_process(*arguments):
    torch.distributed.init_process_group('gloo')
    return evaluated(*arguments)


@pytest.mark.parametrize('size', [5, 1])
def test_two_processes_evaluate_each_image_once(size):
    """Of one query, a process has none."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(14) % 3
    images = torch.eye(3)[labels][:, :, None, None] + torch.rand(14, 3, 8, 8, generator=generator)
    expected = evaluated(images, labels, size)
    assert forked(of_a_process, images, labels, size) == [expected, expected]


def test_two_processes_give_the_result_of_one(data):
    """Each holds half of the training images; the votes are those of all."""
    assert forked(knn_of_a_share, data) == [knn_accuracy(*data)] * 2


def knn_of_a_share(data):
    torch.distributed.init_process_group('gloo')
    rank = torch.distributed.get_rank()
    return knn_accuracy(*(values[rank::2] for values in data))


def test_votes_of_a_low_temperature_do_not_overflow(data):
    nearest = knn_accuracy(*data, ks=[1])[0].top1
    for temperature in (0.01, 1e-3):
        assert knn_accuracy(*data, ks=[200], temperature=temperature)[0].top1 == pytest.approx(nearest, abs=5)


def test_a_class_without_a_vote_is_not_among_five(data):
    train, train_labels, queries, query_labels = data
    for label in (0, CLASSES - 1):
        (found,) = knn_accuracy(train, train_labels, queries, torch.full_like(query_labels, label), ks=[1])
        assert found.top1 == found.top5


def test_both_folders_have_the_same_classes():
    loaders = []
    for classes in ('abc', 'bc'):
        named = type('Named', (list,), {'metainfo': dict(classes=tuple(classes))})
        loaders.append(DataLoader(named(loader_of(torch.zeros(3, 3, 8, 8), torch.zeros(3)).dataset), 3))
    with pytest.raises(ValueError, match="different classes .the first difference: 'a' and 'b'."):
        KNN(loaders[1], loaders[0])
    KNN(loaders[0], loaders[0])


def test_images_of_a_draw_of_few():
    cfg = Config.fromfile(ROOT / 'configs/finetune/vittiny_photographs.py')
    train, val = feature_datasets(cfg)
    assert train['type'] == 'FewShot' and train['dataset']['pipeline'] == innermost(val)['pipeline']
    assert cfg.train_dataloader.dataset.dataset.pipeline != innermost(val)['pipeline']  # which stays
