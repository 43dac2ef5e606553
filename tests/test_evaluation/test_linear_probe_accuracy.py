import torch
from mmpretrain.structures import DataSample

from mvp_mm.evaluation import LinearProbeAccuracy


def test_best_is_reported():
    """Four images; block 3 at x2 gets three right, the others fewer."""
    metric = LinearProbeAccuracy()
    firsts = [[[0, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 1]], [[9, 9], [9, 9]]]  # image, block, rate
    for label, labels in zip((0, 1, 1, 2), firsts, strict=True):
        ranked = torch.tensor(labels)[..., None].repeat(1, 1, 2)
        ranked[..., 1] = 2  # second choice of every classifier
        sample = DataSample().set_gt_label(label)
        sample.set_field(ranked, 'probe_labels')
        sample.set_field((1, 3), 'probe_blocks', field_type='metainfo')
        sample.set_field((0.5, 2.0), 'probe_lr_multipliers', field_type='metainfo')
        metric.process({}, [sample.to_dict()])
    figures = metric.compute_metrics(metric.results)
    assert figures == dict(
        top1=75.0,
        top5=100.0,
        best_block=3,
        best_lr_multiplier=2.0,
        **{
            'top1_block1_x0.5': 25.0,
            'top1_block1_x2': 50.0,
            'top1_block3_x0.5': 25.0,
            'top1_block3_x2': 75.0,
        },
    )
    table = metric.table(100 * metric.results[0][0].astype(float))
    assert [line.split()[0] for line in table.splitlines()[1:]] == ['block', '1', '3']
