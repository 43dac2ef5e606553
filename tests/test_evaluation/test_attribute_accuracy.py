import torch

from mvp_mm.evaluation.attribute_accuracy import AttributeAccuracy

SCORES = dict(left=[1.0, 0.0], right=[0.0, 1.0])


def samples_of(shapes, colours):
    """Samples whose best class is given as ``left`` or ``right``; the right one is always the left."""
    return [
        dict(
            shape_scores=torch.tensor(SCORES[shape]),
            shape=torch.tensor(0),
            colour_scores=torch.tensor(SCORES[colour]),
            colour=torch.tensor(0),
        )
        for shape, colour in zip(shapes, colours, strict=True)
    ]


def test_percent_of_each_attribute():
    metric = AttributeAccuracy(['shape', 'colour'])
    samples = samples_of(['left', 'left', 'right', 'left'], ['right', 'left', 'right', 'left'])
    metric.process({}, samples[:3])
    metric.process({}, samples[3:])
    assert metric.evaluate(4) == {'zero_shot/shape': 75.0, 'zero_shot/colour': 50.0}
