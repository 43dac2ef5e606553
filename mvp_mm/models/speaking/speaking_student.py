"""A student that names classify and segment, from its checkpoint alone."""

from functools import cached_property
from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...weights.fill_model import fill_whole
from ...weights.infer_arch import infer_arch
from ...weights.load import fill
from ...weights.locate import local_path, published_file
from ...weights.read import BACKBONE, read_checkpoint, tensors_by_name
from ..student import head_tokens
from .speaks import Speaks, projected
from .speech import Speech, heads_told
from .text_tower import TextTower

NECK = 'neck.'  # of the head's names in a checkpoint
TEXT = 'text_encoder.'  # and of the text encoder's, in one of RILS


@MODELS.register_module()
class SpeakingStudent(Speaks, nn.Module):
    """A pre-trained student with its head, and with its teacher's text tower from the first question on.

    A :class:`~mvp_mm.models.student.Student`: ``forward`` and ``encode_image`` are those of its backbone. A
    student without a head, or whose teacher has no text, cannot speak, and says why if asked.

    Args:
        checkpoint: Pre-training checkpoint, published or exported safetensors file, or another BEiT-family
            weight file, or its address. Default None: random weights, as ``speech`` says.
        teacher: Weight file of the teacher, or its address, if it lies elsewhere than it did in training; the
            config of its model is then looked for beside it, too. Default None: what the checkpoint records.
        speech: :meth:`MVP.speech`, for a file that does not record it. Default None.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is no plain weight file, or does not fit what it says of itself.
    """

    task = 'features'
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self, checkpoint: str | None = None, teacher: str | None = None, speech: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._speech = told = None if speech is None else Speech(**speech)
        weights: dict[str, Tensor] = {}
        if checkpoint is not None:
            path = local_path(checkpoint)
            content = read_checkpoint(path)
            weights = tensors_by_name(content, checkpoint)
            self._speech = told = Speech.of_file(path, content) or told
            if told is None:
                arch = infer_arch(weights, checkpoint, num_heads=heads_told(content))
                told = Speech({}, dict(arch, type='MVPViT'), {})
        if told is None:
            raise ValueError('SpeakingStudent needs a checkpoint, or the speech of one')
        head = {name.removeprefix(NECK): value for name, value in weights.items() if name.startswith(NECK)}
        own_text = checkpoint if any(name.startswith(TEXT) for name in weights) else None
        self.teacher, self.source = teacher or own_text, checkpoint or 'this student'
        scope = dict(_scope_='mmpretrain')  # whatever a model of mmseg has made the default one
        self.backbone: Any = MODELS.build(told.backbone | scope)
        self.img_size = self.image_size = self.backbone.img_size
        self.patch_size, self.embed_dims = self.backbone.patch_size, self.backbone.embed_dims
        self.neck: Any = None
        if told.neck and (head or checkpoint is None):
            self.neck = MODELS.build(told.neck | scope)
        if checkpoint is not None:
            fill(self.backbone, weights, checkpoint, BACKBONE)
        if head and self.neck is not None:
            fill_whole(self.neck, head, f'the head of {checkpoint}')
        for name, values in (('image_mean', told.mean), ('image_std', told.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)
        self.eval()

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the student's size, on its device."""
        return self.backbone.example_inputs(batch)

    def speech(self) -> dict[str, Any] | None:
        """See :meth:`.MVP.speech`; None for a file that does not tell."""
        return None if self._speech is None else self._speech.plain()

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Any:
        """Do as the backbone does."""
        return self.backbone(images, mask)

    def encode_image(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """See :meth:`.Student.encode_image`: tokens before the head."""
        return self.backbone.encode_image(images, mask)

    def embed_image(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """See :meth:`.Speaks.embed_image`."""
        speech = self._require_head()
        cls, patches = projected(self.neck, *head_tokens(self.backbone, images))
        return cls if speech.learns_cls else None, patches

    @cached_property
    def text_tower(self) -> TextTower:
        """The tower of the student's own teacher, loaded when first asked for.

        Raises:
            ValueError: If the student cannot speak: it has no head, its teacher has no text or cannot be
                found, or ``teacher`` is another one than the student's.
        """
        record = self._require_head().teacher
        load = getattr(MODELS.get(str(record.get('type'))), 'load_text_tower', None)
        try:
            if load is None:
                raise ValueError(f'its teacher, a {record.get("type")}, has no text tower')
            try:
                tower = load(record, self.teacher and str(local_path(self.teacher)))
            except FileNotFoundError:  # trained on another machine: a published teacher is here, too
                file = None if self.teacher else published_file(record.get('sha256'))
                if file is None:
                    raise
                tower = load(record, str(file))
        except (FileNotFoundError, ValueError) as error:
            reason = str(error).rpartition('cannot speak: ')[2]
            if isinstance(error, FileNotFoundError):
                reason += "; give the teacher's weight file, teacher=FILE (mvp-mm segment: --teacher FILE)"
            raise ValueError(f'{self.source} cannot speak: {reason}') from error
        if record.get('sha256') not in (None, tower.identity):
            raise ValueError(
                f"{self.source} cannot speak: this is another teacher's text tower than the student's: the "
                f'sha256 of {self.teacher or record.get("pretrained")} is {tower.identity}, and the student '
                f'was trained with {record["sha256"]}'
            )
        return tower

    def _require_head(self) -> Speech:
        if self.neck is not None and self._speech is not None:
            return self._speech
        why = "it has no head (neck.*), which projects into the teacher's space"
        if self._speech is None:
            why = 'it does not tell of a head and a teacher, as a pre-training checkpoint of MVP does'
        raise ValueError(f'{self.source} cannot speak: {why}')
