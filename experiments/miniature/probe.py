"""Linear probe and k-NN of frozen features on the embedded scenes.

Shape legend: N scenes, D feature width, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mvp_mm.datasets.scenes import COLOURS, SHAPES, SceneCollection

from ..linear_probe import accuracy, best_penalty, fit_probe, nearest_accuracy, normalised

PROBE_SEED = 7  # scenes of their own: seen neither by a student nor by a teacher
COUNTS = {'train': 3000, 'val': 1000, 'test': 2000}

Encoder = Callable[[Tensor], Tensor]


def probe_scores(encode: Encoder, counts: dict[str, int] = COUNTS) -> dict[str, float]:
    """Accuracies in percent of the shape and the colour of each scene's main object; chance is 12.5.

    A multinomial logistic regression on standardised features; its penalty is chosen on the validation
    scenes, the accuracy is the test scenes'. And k-NN, k = 20, without anything to choose.

    Args:
        encode: Images ``(B, 3, 64, 64)``, normalised by ImageNet's statistics, to features ``(B, D)``.
        counts: Scenes of each split.

    Returns:
        ``shape``, ``colour``, ``knn_shape`` and ``knn_colour``.
    """
    data = {split: _features(encode, split, count) for split, count in counts.items()}
    scores = {}
    for attribute in ('shape', 'colour'):
        train, val, test = (
            (features, labels[attribute]) for features, labels in (data[s] for s in ('train', 'val', 'test'))
        )
        num_classes = len(SHAPES) if attribute == 'shape' else len(COLOURS)
        penalty = best_penalty(train, val, num_classes)
        scores[attribute] = accuracy(fit_probe(train, num_classes, penalty), test)
        scores[f'knn_{attribute}'] = nearest_accuracy(train, test)
    return scores


@torch.no_grad()
def _features(encode: Encoder, split: str, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    scenes = SceneCollection(split, count, seed=PROBE_SEED)
    features = []
    for begin in range(0, count, 250):
        images = [torch.from_numpy(scenes[i][0]) for i in range(begin, min(begin + 250, count))]
        images = torch.stack(images).permute(0, 3, 1, 2)
        features.append(encode(normalised(images)).float())
    described = [scenes.describe(i) for i in range(count)]
    labels = {
        key: torch.tensor([getattr(description, key) for description in described])
        for key in ('shape', 'colour')
    }
    return torch.cat(features), labels
