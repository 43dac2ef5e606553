"""Classification by the names of classes, without a label."""

from collections.abc import Mapping
from typing import Any

import torch
from mmpretrain.registry import EVALUATORS
from torch import Tensor, nn

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
        embeddings = self.embeddings(speaker)

        def hits(batch: Mapping[str, Any]) -> dict[str, Tensor]:
            cls, _ = speaker.embed_image(batch['inputs'])
            if cls is None:
                raise ValueError('zero-shot classification compares CLS, and this model has none')
            labels = self.labels(batch).to(cls.device)
            if (labels >= len(self.classes)).any():  # of a sharded model, a batch may be empty
                raise ValueError(
                    f'an image has label {labels.max()}, but classes has {len(self.classes)} entries'
                )
            ranked = embeddings.of_classes(embeddings.cosines(cls)).topk(min(5, len(self.classes))).indices
            right = (ranked == labels[:, None]).cpu()
            return dict(top1=right[:, 0].sum(), top5=right.sum(), images=torch.tensor(len(right)))

        total = self.total(map(hits, self.batches(model, self.dataloader)))
        names = ('top1', 'top5') if len(self.classes) > 5 else ('top1',)
        return {name: (100 * total[name] / total['images']).item() for name in names}
