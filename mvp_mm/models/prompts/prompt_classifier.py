"""A classifier whose classes are learnt prompts, over frozen encoders of images and text.

Shape legend: B images, K classes, N names, D joint width.
"""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ...text.class_names import class_names as names_of
from ..speaking.class_embeddings import ClassEmbeddings
from ..speaking.speaks import Speaks
from ..speaking.text_tower import Names, TextTower, require_classes
from .base_to_new import classes_of
from .coop import CoOp


@MODELS.register_module()
class PromptClassifier(BaseModel):
    """Classify images by the prompts that a :class:`CoOp` or :class:`CoCoOp` learns, by cross-entropy.

    The speaking model is not a submodule: ``state_dict()``, ``parameters()`` and DDP see the learner only.
    It stays in eval mode but follows ``.to()``.

    Args:
        speaker: A model that :class:`.Speaks`, such as ``dict(type='CLIPTargetGenerator', ...)`` or
            ``dict(type='SpeakingStudent', checkpoint=FILE)``.
        prompts: The learner, such as ``dict(type='CoOp')``.
        class_names: One entry a class, in the order of the labels; see :meth:`TextTower.class_embeddings`. Or
            a name of :func:`~mvp_mm.text.class_names.class_names`, such as ``'imagenet'``.
        classes: Those to train on: ``'all'`` (default), ``'base'`` or ``'new'``. Predictions are of all.
        data_preprocessor: Config. Default: ``ClsDataPreprocessor`` with the speaker's statistics for BGR
            images, whose arguments may be given without a type (``to_rgb=False`` for RGB images).

    Raises:
        ValueError: If the model cannot speak, or the names or arguments of the learner do not do.
    """

    task = 'classification'
    batch_coupled = False

    def __init__(
        self,
        speaker: dict | nn.Module,
        prompts: dict | nn.Module,
        class_names: str | Names,
        classes: str = 'all',
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        built: Any = speaker if isinstance(speaker, nn.Module) else MODELS.build(speaker)
        if not isinstance(built, Speaks):
            raise ValueError(
                f'a {type(built).__name__} cannot speak: expected a model with a text tower, such as '
                'CLIPTargetGenerator or SpeakingStudent'
            )
        tower = built.text_tower  # which says why there is none
        if not isinstance(data_preprocessor, nn.Module) and 'type' not in (data_preprocessor or {}):
            mean, std = (value.flatten().tolist() for value in (built.image_mean, built.image_std))
            default = dict(type='mmpretrain.ClsDataPreprocessor', mean=mean, std=std, to_rgb=True)
            data_preprocessor = default | (data_preprocessor or {})
        super().__init__(data_preprocessor)
        frozen: Any = built
        frozen.requires_grad_(False)
        frozen.eval()  # of other libraries' modules, some return nothing
        self._speaker = (frozen,)  # in a tuple, which nn.Module does not look into
        self.names = require_classes(names_of(class_names) if isinstance(class_names, str) else class_names)
        self.trained = classes_of(classes, len(self.names))
        trained = [name for number in self.trained for name in self.names[number]]
        learner: Any = prompts
        if not isinstance(prompts, nn.Module):
            learner = MODELS.build(prompts, default_args=dict(text_tower=tower, class_names=trained))
        self.prompts: CoOp = learner
        self.prompts.layout(tuple(trained))  # which raises where they do not fit
        if self.prompts.class_names and len(self.trained) < len(self.names):
            raise ValueError(
                f'class_specific=True with classes={classes!r}: such prompts know no other classes, and '
                "predictions are of all: give classes='all', or shared prompts"
            )
        self._embeddings: tuple[Any, ClassEmbeddings] | None = None

    @property
    def speaker(self) -> Any:
        """The frozen model that embeds images."""
        return self._speaker[0]

    @property
    def text_tower(self) -> TextTower:
        """The frozen tower that embeds prompts."""
        return self.prompts.text_tower

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'PromptClassifier':
        super()._apply(fn, recurse)
        device = self.prompts.context.device
        self.speaker.to(device)
        self.text_tower.to(device)
        return self

    def train(self, mode: bool = True) -> 'PromptClassifier':
        """Set the mode, and forget the embeddings: fused optimisers do not tell that prompts have changed."""
        self._embeddings = None
        super().train(mode)
        return self

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the speaker's size, on its device."""
        return (self.prompts.context.new_zeros(batch, 3, *self.speaker.image_size),)

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> dict | list | Tensor:
        """Do as ``mode`` says: ``'loss'``, ``'predict'`` or ``'tensor'`` (:meth:`embed_image`).

        Inputs are normalised images ``(B, 3, H, W)``, or their embeddings ``(B, D)``, computed before. The
        loss takes B samples with a ``gt_label``.
        """
        if mode == 'tensor':
            return self.embed_image(inputs)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode != 'loss' or data_samples is None:
            raise ValueError(f"mode={mode!r}: expected 'tensor', 'predict', or 'loss' with data_samples")
        return self.loss(inputs, data_samples)

    @torch.no_grad()
    def embed_image(self, inputs: Tensor) -> Tensor:
        """Embed images with CLS: ``(B, D)`` float32, L2-normalised; embeddings are normalised only."""
        features = inputs if inputs.ndim == 2 else self.speaker.embed_image(inputs)[0]
        if features is None:
            raise ValueError('prompts classify by CLS, and this model has none')
        return F.normalize(features.float(), dim=-1)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Compute the cross-entropy among the classes that training tells apart, and its accuracy."""
        labels = torch.cat([sample.gt_label for sample in data_samples])
        least, most = torch.stack(labels.aminmax()).tolist()  # in one copy from the device
        if least < self.trained.start or most >= self.trained.stop:
            raise ValueError(
                f'labels {least} to {most}, but training tells the classes '
                f'{self.trained.start} to {self.trained.stop - 1} apart: give the dataset and the model the '
                "same `classes` ('base', 'all')"
            )
        labels = labels.to(self.prompts.context.device) - self.trained.start
        features = self.embed_image(inputs)
        logits = self.logits(features, self.class_embeddings(self.trained, features))
        accuracy = (logits.argmax(1) == labels).float().mean()
        return dict(loss=F.cross_entropy(logits, labels), accuracy=100 * accuracy)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> list[DataSample]:
        """Add ``pred_score``, the probabilities of all classes ``(K,)``, and ``pred_label``."""
        features = self.embed_image(inputs)
        scores = self.logits(features, self._fixed_embeddings(features)).softmax(-1)
        data_samples = data_samples or [DataSample() for _ in scores]
        for sample, row in zip(data_samples, scores, strict=True):
            sample.set_pred_score(row).set_pred_label(row.argmax())
        return data_samples

    def class_embeddings(self, classes: range, features: Tensor | None = None) -> ClassEmbeddings:
        """Embed the prompts of classes; their vectors are ``(B, N, D)`` where they depend on the image."""
        groups = [self.names[number] for number in classes]
        vectors = self.prompts([name for group in groups for name in group], features)
        return ClassEmbeddings.of(vectors, groups)

    def logits(self, features: Tensor, embeddings: ClassEmbeddings) -> Tensor:
        """Compute logit scale times cosine, ``(B, K)``, of unit features ``(B, D)``."""
        vectors = embeddings.vectors
        cosines = features @ vectors.T if vectors.ndim == 2 else torch.einsum('bd,bnd->bn', features, vectors)
        return self.text_tower.logit_scale * embeddings.of_classes(cosines)

    def _fixed_embeddings(self, features: Tensor) -> ClassEmbeddings:
        """Embed all classes; where they do not depend on the image, once until the prompts change."""
        everything = range(len(self.names))
        if self.prompts.conditional:
            return self.class_embeddings(everything, features)
        state = [(parameter._version, parameter.data_ptr()) for parameter in self.prompts.parameters()]
        if self._embeddings is None or self._embeddings[0] != state:
            self._embeddings = (state, self.class_embeddings(everything))
        return self._embeddings[1]
