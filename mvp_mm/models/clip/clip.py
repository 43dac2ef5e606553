"""Train a CLIP from images and captions, to be a teacher."""

from collections.abc import Sequence

import open_clip
import torch
from mmengine.dist import get_dist_info
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ...text.tokenize import find_tokenizer, read_model_config
from ..backbones.multihead_attention import use_faster_attention
from .text_encoder import TextEncoder

MAX_LOGIT_SCALE = 100.0  # CLIP §2.5: the temperature is clipped so that no logit is scaled by more


# The registry's CLIP is mmpretrain's.
@MODELS.register_module(name=['OpenCLIP', 'CLIPTeacher'])
class CLIP(BaseModel):
    """An open_clip model under open_clip's contrastive loss, with zero-shot predictions by prompts.

    Captions are compared with the images of all processes: build it after ``torch.distributed`` is ready.

    Args:
        model_name: Path of an open_clip model config (``.json``). ``text_cfg.tokenizer_kwargs.words``
            is the vocabulary of its captions, by default CLIP's.
        prompts: For each attribute, one list of prompts per class, whose mean embedding is the class's.
            Default None: nothing to predict.
        data_preprocessor: Config. Default ``SelfSupDataPreprocessor`` with open_clip's mean and std.

    Raises:
        FileNotFoundError: If there is no such model config.
        ValueError: If the config's vocabulary and ``vocab_size`` do not fit.
    """

    task = 'contrastive'
    batch_coupled = True  # the other samples of the batch are the negatives

    def __init__(
        self,
        model_name: str,
        prompts: dict[str, Sequence[Sequence[str]]] | None = None,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        scaled = dict(mean=[255 * value for value in mean], std=[255 * value for value in std])
        default = dict(type='mmpretrain.SelfSupDataPreprocessor', **scaled, to_rgb=False)
        super().__init__(data_preprocessor or default)
        config = read_model_config(model_name)
        if config is None:
            raise FileNotFoundError(f'there is no open_clip model config {model_name}')
        self.tokenizer = find_tokenizer(model_name)
        self.quick_gelu = bool(config.get('quick_gelu', False))
        parts = config['embed_dim'], config['vision_cfg'], config['text_cfg']
        self.clip = open_clip.CLIP(*parts, quick_gelu=self.quick_gelu)
        use_faster_attention(self.clip)
        # local_loss=False: every process computes the joined batch's loss, which is logged as it is.
        rank, world_size = get_dist_info()
        self.loss_module = open_clip.ClipLoss(gather_with_grad=True, rank=rank, world_size=world_size)
        self.prompts = prompts or {}

    @property
    def text_encoder(self) -> TextEncoder:
        """The text tower; a view, so that no parameter is registered twice."""
        return TextEncoder(self.clip)

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the built size, on this module's device."""
        return (self.clip.logit_scale.new_zeros(batch, 3, *self.clip.visual.image_size),)

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> dict | list | Tensor:
        """Compute from normalised images ``(B, 3, H, W)`` what ``mode`` asks for.

        ``'loss'`` (needs ``caption`` of samples), ``'predict'`` (scores), ``'tensor'`` (unit embeddings).
        """
        if mode == 'tensor':
            return self.clip.encode_image(inputs, normalize=True)
        if data_samples is None:
            raise ValueError(f'mode={mode!r} needs data_samples')
        return self.loss(inputs, data_samples) if mode == 'loss' else self.predict(inputs, data_samples)

    def loss(self, images: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Compute open_clip's symmetric InfoNCE over the batches of all processes."""
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=torch.tensor(MAX_LOGIT_SCALE).log().item())
        image_features = self.clip.encode_image(images, normalize=True)
        text_features = self._encode_text([sample.caption for sample in data_samples])
        return dict(loss=self.loss_module(image_features, text_features, self.clip.logit_scale.exp()))

    def predict(self, images: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Add each attribute's zero-shot scores, float32 ``(classes,)``, as ``<attribute>_scores``."""
        embeddings = self.clip.encode_image(images, normalize=True).float()
        for attribute, classes in self.prompts.items():
            means = torch.stack([self._encode_text(prompts).mean(0) for prompts in classes])
            scores = embeddings @ F.normalize(means.float(), dim=-1).T
            for sample, row in zip(data_samples, scores, strict=True):
                sample.set_field(row, f'{attribute}_scores')
        return data_samples

    def _encode_text(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(texts).to(self.clip.logit_scale.device)
        return F.normalize(self.text_encoder.encode(tokens), dim=-1)

    def teacher_facts(self) -> dict[str, bool]:
        """Return what a target generator must know and the weights do not tell."""
        return dict(quick_gelu=self.quick_gelu)

    def teacher_state(self) -> dict[str, Tensor]:
        """Return the weights that a target generator loads: the whole open_clip model."""
        return self.clip.state_dict()
