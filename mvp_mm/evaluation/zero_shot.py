"""Classification by the names of classes, without a label."""

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmpretrain.registry import EVALUATORS
from torch import nn

from .speaking_evaluator import SpeakingEvaluator


@EVALUATORS.register_module()
class ZeroShot(SpeakingEvaluator):
    """Zero-shot accuracy in percent: CLS against the embeddings of class names (CLIP §3.1).

    Reported: ``top1`` and, with more than five classes, ``top5``.

    Args:
        dataloader: Images with ``gt_label``.
        classes: See :class:`SpeakingEvaluator`, as for ``templates`` and ``of``.
        **kwargs: See :class:`.Evaluator`. The default ``prefix`` is ``'zero_shot'``.
    """

    default_prefix = 'zero_shot'

    def evaluate_speaker(self, model: nn.Module, speaker: Any) -> dict[str, float]:
        """Classify the images of all processes."""
        embeddings = self.embeddings(speaker, self.classes, self.templates)
        ranks = min(5, len(self.classes))
        counts = torch.zeros(3, dtype=torch.long)  # images, right, right among five
        for batch in self.batches(model, self.dataloader):
            cls, _ = speaker.embed_image(batch['inputs'])
            if cls is None:
                raise ValueError('zero-shot classification compares CLS, and this model has none')
            labels = torch.cat([sample.gt_label for sample in batch['data_samples']]).to(cls.device)
            if labels.max() >= len(self.classes):
                raise ValueError(
                    f'an image has label {labels.max()}, but classes {len(self.classes)} entries'
                )
            right = embeddings.of_classes(embeddings.cosines(cls)).topk(ranks).indices == labels[:, None]
            counts += torch.tensor([len(labels), int(right[:, 0].sum()), int(right.sum())])
        all_reduce(counts)
        images, *hits = counts.tolist()
        top1, top5 = (100 * hit / images for hit in hits)
        return dict(top1=top1, top5=top5) if len(self.classes) > 5 else dict(top1=top1)
