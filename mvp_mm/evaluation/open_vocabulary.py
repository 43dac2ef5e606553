"""Segmentation by the names of classes, without a label."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmpretrain.registry import EVALUATORS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..models.speaking.dense import SCALE, dense_cosines, label_map
from .speaking_evaluator import SpeakingEvaluator

IGNORED = 255  # mmseg's


@EVALUATORS.register_module()
class OpenVocabulary(SpeakingEvaluator):
    """Segmentation by names: patches against the embeddings of class names (SCLIP's protocol).

    Reported, in percent, by mmseg's ``IoUMetric``: ``mIoU``, ``mAcc`` (mean over the classes) and ``aAcc``
    (over the pixels). The classes' table is logged.

    Args:
        dataloader: Images with label maps of an mmseg dataset, in BGR as mmseg loads them, resized to the
            size at which windows are cut; a batch is of one size.
        classes: See :class:`SpeakingEvaluator`, as for ``templates`` and ``of``.
        window, stride: Of the windows, in pixels. Default None: the smaller side built for, and its half.
        scale: Factor of the cosines before the softmax over all names. Default 40 (SCLIP).
        background: Number of the class that has no look of its own. Without ``threshold`` its pixels are
            ignored, and its name is not asked for. Default None: there is none.
        threshold: Pixels whose largest probability is below become background. Default None.
        **kwargs: See :class:`.Evaluator`. The default ``prefix`` is ``'open_vocabulary'``.
    """

    default_prefix = 'open_vocabulary'

    def __init__(
        self,
        dataloader: DataLoader,
        classes: str | Sequence[str | Sequence[str]],
        window: int | None = None,
        stride: int | None = None,
        scale: float = SCALE,
        background: int | None = None,
        threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataloader, classes, **kwargs)
        if background is None and threshold is not None:
            raise ValueError(f'threshold={threshold}: expected also the number of the background class')
        if background is not None and not 0 <= background < len(self.classes):
            raise ValueError(f'background={background} is none of the {len(self.classes)} classes')
        self.window, self.stride, self.scale = window, stride, scale
        self.background, self.threshold = background, threshold
        self.ignored = background if threshold is None else None
        self.numbers = [number for number in range(len(self.classes)) if number != self.ignored]
        self.asked = [self.classes[number] for number in self.numbers]

    def require(self, model: Any) -> None:
        """Refuse a sharded model, too."""
        if is_model_wrapper(model):  # whose processes must make the same calls
            raise ValueError(
                'OpenVocabulary cannot evaluate a sharded model, as images differ in their numbers of '
                'windows: test its checkpoints by a config without runner_type'
            )
        super().require(model)

    def evaluate_speaker(self, model: nn.Module, speaker: Any) -> dict[str, float]:
        """Segment the images of all processes."""
        from mmseg.evaluation import IoUMetric  # only segmentation needs mmseg

        embeddings = self.embeddings(speaker)
        window = self.window or min(speaker.image_size)
        stride = self.stride or max(1, window // 2)
        options = self.scale, None if self.threshold is None else self.background, self.threshold

        def areas(batch: Mapping[str, Any]) -> dict[str, Tensor]:
            cosines = dense_cosines(speaker, batch['inputs'], embeddings, window, stride)
            parts = []
            for one, sample in zip(cosines, batch['data_samples'], strict=True):
                truth = self._truth(sample).to(one.device)
                found = label_map(one[None], embeddings, (truth.shape[0], truth.shape[1]), *options)[0]
                found = torch.tensor(self.numbers, device=found.device)[found]
                counts = IoUMetric.intersect_and_union(found, truth, len(self.classes), IGNORED)
                parts.append(torch.stack(counts))
            return dict(areas=torch.stack(parts).double().sum(0))

        with _bgr_images(model):
            total = self.total(map(areas, self.batches(model, self.dataloader)))['areas']
        metric = IoUMetric()
        metric.dataset_meta = dict(classes=[str(name)[:40] for name in self.classes])
        return {name: float(value) for name, value in metric.compute_metrics([tuple(total)]).items()}

    def _truth(self, sample: Any) -> Tensor:
        if 'gt_sem_seg' not in sample:
            raise ValueError(
                'OpenVocabulary compares with label maps, and an image has none: put LoadAnnotations behind '
                'Resize, and PackSegInputs last'
            )
        truth = sample.gt_sem_seg.data[0].long()
        return truth if self.ignored is None else truth.masked_fill(truth == self.ignored, IGNORED)


@contextmanager
def _bgr_images(model: Any) -> Iterator[None]:
    """Let a model's preprocessor swap the channels: mmseg loads BGR, this package RGB."""
    preprocessor = model.data_preprocessor
    before, preprocessor.bgr_to_rgb = preprocessor.bgr_to_rgb, True
    try:
        yield
    finally:
        preprocessor.bgr_to_rgb = before
