"""Classification by the names of classes, without a label."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmpretrain.registry import EVALUATORS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .speaking_evaluator import SpeakingEvaluator


@EVALUATORS.register_module()
class ZeroShot(SpeakingEvaluator):
    """Zero-shot accuracy in percent: CLS against the embeddings of class names (CLIP §3.1).

    Reported: ``top1`` and, with more than five classes, ``top5``.

    Args:
        dataloader: Images with ``gt_label``.
        classes: See :class:`SpeakingEvaluator`, as for ``templates`` and ``of``.
        among: Numbers of the classes to tell apart, of which all images are. Default None: all classes.
        **kwargs: See :class:`.Evaluator`. The default ``prefix`` is ``'zero_shot'``.
    """

    default_prefix = 'zero_shot'

    def __init__(
        self, dataloader: DataLoader, *args: Any, among: Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(dataloader, *args, **kwargs)
        total = len(self.classes)
        numbers = list(range(total)) if among is None else sorted(set(among))
        if not numbers or not 0 <= numbers[0] <= numbers[-1] < total:
            raise ValueError(f'among={among}: expected numbers of classes, of 0 to {total - 1}')
        self.asked = [self.classes[number] for number in numbers]
        self._places = torch.full((total,), -1)  # of each class among those
        self._places[numbers] = torch.arange(len(numbers))

    def evaluate_speaker(self, model: nn.Module, speaker: Any) -> dict[str, float]:
        """Classify the images of all processes."""
        embeddings = self.embeddings(speaker)

        def hits(batch: Mapping[str, Any]) -> dict[str, Tensor]:
            cls, _ = speaker.embed_image(batch['inputs'])
            if cls is None:
                raise ValueError('zero-shot classification compares CLS, and this model has none')
            labels = self.labels(batch).cpu()
            if (labels >= len(self.classes)).any():  # of a sharded model, a batch may be empty
                raise ValueError(
                    f'an image has label {labels.max()}, but classes has {len(self.classes)} entries'
                )
            places = self._places[labels]
            if (places < 0).any():
                raise ValueError(f'an image has label {labels[places < 0][0]}, which is not in `among`')
            ranked = embeddings.of_classes(embeddings.cosines(cls)).topk(min(5, len(self.asked))).indices
            right = ranked.cpu() == places[:, None]
            return dict(top1=right[:, 0].sum(), top5=right.sum(), images=torch.tensor(len(right)))

        total = self.total(map(hits, self.batches(model, self.dataloader)))
        names = ('top1', 'top5') if len(self.asked) > 5 else ('top1',)
        return {name: (100 * total[name] / total['images']).item() for name in names}
