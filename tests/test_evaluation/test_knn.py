"""k-NN against brute force, one image at a time in plain Python, and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mvp_mm.evaluation import knn
from mvp_mm.evaluation.knn import KS, TEMPERATURE, knn_accuracy

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
        top5 += label in ranked[:5]
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
