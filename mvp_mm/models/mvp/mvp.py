"""The algorithm: paper §3.3, Eq. 7 to 9."""

from typing import Any

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..compilation import compiled, compiles, require_choice
from ..speaking.speaks import SpeakingAlgorithm
from ..speaking.speech import Speech
from ..speaking.text_tower import TextTower
from .mvp_loss import MVPLoss, token_cosines


@MODELS.register_module()
class MVP(SpeakingAlgorithm, BaseSelfSupervisor):
    """Multimodality-guided visual pre-training.

    A student sees a masked crop and predicts a frozen teacher's tokens of the whole one: CLS and all patches.

    Args:
        backbone: The student, with a mask token and a final norm, for example :class:`MVPViT`; its
            ``forward(images, mask)`` returns tokens ``(B, 1+M, C)`` last.
        neck: Projection into the teacher's space, an :class:`MVPNeck`.
        target_generator: The teacher, for example :class:`CLIPTargetGenerator`.
        loss: Config or module, called with F, G and the mask. Default :class:`MVPLoss`, Eq. 9.
        data_preprocessor: Config. Default :class:`MVPDataPreprocessor`.
        pretrained: BEiT-family weight file to start from, as by the backbone's ``init_cfg``. Default None.
        compile_loss: Compile the comparison with the targets, as :class:`MVPViT`'s ``compile_blocks``.
        init_cfg: MMEngine initialisation. Default None.

    Raises:
        ValueError: If patch sizes, token widths or normalisation statistics of the parts differ.
    """

    task = 'pretraining'
    batch_coupled = False  # every token is compared with its own target only
    several = False  # teachers: see MultiTeacherMVP

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        target_generator: dict | nn.Module,
        loss: dict | nn.Module | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        pretrained: str | None = None,
        compile_loss: bool | str = 'auto',
        init_cfg: dict | None = None,
    ) -> None:
        require_choice(compile_loss, 'compile_loss')
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = {'type': 'MVPDataPreprocessor', **(data_preprocessor or {})}
        if pretrained is not None:
            init: Any = dict(type='Pretrained', checkpoint=pretrained)
            if isinstance(backbone, nn.Module):
                backbone.init_cfg = init
            else:
                backbone = {**backbone, 'init_cfg': init}
        parts = dict(backbone=backbone, neck=neck, target_generator=target_generator)
        super().__init__(**parts, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        loss = dict(type='MVPLoss') if loss is None else loss
        self.loss_module: Any = loss if isinstance(loss, nn.Module) else MODELS.build(loss)
        self.compile_loss = compile_loss
        self._check_fit()
        self._parts = dict(backbone=backbone, neck=neck)

    def _check_fit(self) -> None:
        teacher, neck, student = self.target_generator, self.neck, self.backbone
        if {isinstance(part.out_channels, dict) for part in (teacher, neck)} != {self.several}:
            raise ValueError(
                "several teachers need model.type='MultiTeacherMVP', neck.type='MVPNecks' and "
                "target_generator.type='TargetGenerators' together; one teacher needs none of them"
            )
        if self.several and not getattr(student, 'predicts_cls', True):
            raise ValueError("only one teacher goes with model.backbone.cls='none': set it to 'pooled'")
        for key, given, whose, expected in (
            ('neck.out_channels', neck.out_channels, 'the targets have', teacher.out_channels),
            ('neck.in_channels', neck.in_channels, 'the student has', student.embed_dims),
            ('target_generator.patch_size', teacher.patch_size, 'the student has', student.patch_size),
        ):
            if given != expected:
                raise ValueError(f'{key} is {given} but {whose} {expected}: set model.{key}={expected}')
        given = torch.stack([self.data_preprocessor.mean, self.data_preprocessor.std]).flatten(1).cpu()
        undone = torch.stack([teacher.student_mean, teacher.student_std]).cpu()
        if not torch.allclose(given, undone):
            raise ValueError(
                f'the data preprocessor normalises by mean, std {given.tolist()} but the target generator '
                f'undoes {undone.tolist()}: set model.target_generator.student_mean/student_std to the same'
            )

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the student's size, on its device."""
        return self.backbone.example_inputs(batch)

    @property
    def learns_cls(self) -> bool:
        """Whether the teacher in whose space the student speaks has a target for CLS."""
        return self.target_generator.teaches_cls

    @property
    def text_tower(self) -> TextTower:
        """The teacher's, whose joint space the neck projects into."""
        return self.target_generator.text_tower

    def speech(self) -> dict[str, Any] | None:
        """Return what checkpoints record so that :class:`.SpeakingStudent` can be built from them.

        Plain data, of :class:`.Speech`; None if the parts were given as modules, whose configs are unknown.
        """
        statistics = dict(mean=self.image_mean.flatten().tolist(), std=self.image_std.flatten().tolist())
        config = dict(self._parts, target_generator=self.target_generator.identity())
        found = Speech.of_config(dict(config, data_preprocessor=statistics))
        return None if found is None else found.plain()

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mask: Tensor | None = None,
        mode: str = 'tensor',
    ) -> dict | tuple | list:
        """Do as ``mode`` says: ``'loss'``, ``'predict'`` or ``'tensor'`` (features of unmasked images)."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, mask)
        if mode == 'predict':
            return self.predict(inputs, mask)
        if mode == 'tensor':
            return self.extract_feat(inputs)
        raise ValueError(f"mode={mode!r} is none of 'loss', 'predict', 'tensor'")

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the training loss and the cosines to log.

        Args:
            inputs: ``(B, 3, H, W)``, normalised for the student.
            data_samples: Not used.
            mask: ``(B, h, w)`` bool, True = masked.

        Returns:
            ``loss`` (Eq. 9) and, without gradient, ``cosine_visible``, ``cosine_masked`` and, unless the
            teacher's ``cls`` is ``'none'``, ``cosine_cls``.

        Raises:
            ValueError: If there is no mask.
        """
        targets = self.extract_targets(inputs)  # Eq. 7
        predictions = self.predict_tokens(inputs, mask)  # Eq. 8, which checks the mask
        assert mask is not None
        return self.compared(predictions, targets, mask)

    def extract_targets(self, inputs: Tensor) -> Tensor:
        """Eq. 7: the teacher's tokens G of the whole crop, ``(B, 1+M, D)``, no gradient.

        ``(B, M, D)`` from a teacher, or for a student, whose ``cls`` is ``'none'``.
        """
        targets = self.target_generator(inputs)
        drops_cls = not getattr(self.backbone, 'predicts_cls', True)
        return targets[:, self.target_generator.num_extra_tokens :] if drops_cls else targets

    def predict_tokens(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Eq. 8: the student's predictions F from the masked crop, as many as the teacher has targets."""
        if mask is None:
            raise ValueError(
                'MVP needs a mask for every image: end the pipeline with BlockwiseMask and PackMaskedInputs'
            )
        tokens = self.backbone(inputs, mask)[-1]
        return self.neck(tokens if self.target_generator.num_extra_tokens else tokens[:, -mask[0].numel() :])

    def compared(self, predictions: Tensor, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Run :meth:`compare_tokens`, compiled where ``compile_loss`` says so."""
        runs_compiled = compiles(self.compile_loss, predictions, self.training)
        compare = compiled(MVP.compare_tokens) if runs_compiled else MVP.compare_tokens
        return compare(self, predictions, targets, mask)

    def compare_tokens(self, predictions: Tensor, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Eq. 9 and the cosines to log, as :meth:`loss` returns them, from F and G."""
        cosines = token_cosines(predictions, targets)
        if type(self.loss_module).forward is MVPLoss.forward:
            loss = self.loss_module.average(cosines, mask)  # Eq. 9, of the cosines that are logged
        else:
            loss = self.loss_module(predictions, targets, mask)
        cosines, masked = cosines.detach(), mask.flatten(1).to(cosines.dtype)
        extra = cosines.shape[1] - masked.shape[1]
        patches, num_masked = cosines[:, extra:], masked.sum()
        return dict(
            loss=loss,
            **(dict(cosine_cls=cosines[:, 0].mean()) if extra else {}),
            cosine_visible=(patches * (1 - masked)).sum() / (masked.numel() - num_masked).clamp(min=1),
            cosine_masked=(patches * masked).sum() / num_masked.clamp(min=1),
        )

    def predict(self, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the predicted tokens F and the targets G, of one shape, for evaluators."""
        return self.predict_tokens(inputs, mask), self.extract_targets(inputs)
