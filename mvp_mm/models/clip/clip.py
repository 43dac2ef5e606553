"""Train a CLIP from images and captions, to be a teacher."""

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ...text.word_tokenizer import WordTokenizer

MAX_LOGIT_SCALE = 100.0  # CLIP §2.5: the temperature is clipped so that no logit is scaled by more


@MODELS.register_module()
class CLIPTeacher(BaseModel):
    """An open_clip model under open_clip's contrastive loss, classifying by prompts as it goes.

    Args:
        model_name: Path of an open_clip model config (``.json``). ``text_cfg.tokenizer_kwargs.words``
            is the vocabulary of its :class:`WordTokenizer`.
        prompts: For each attribute, one list of prompts a class: the class's text embedding is the
            mean over them. Default None: nothing to predict.
        data_preprocessor: Config. Default mmpretrain's ``SelfSupDataPreprocessor`` with open_clip's
            mean and std.

    Raises:
        FileNotFoundError: If there is no such model config.
        ValueError: If the config's vocabulary and ``vocab_size`` do not fit.
    """

    def __init__(
        self,
        model_name: str,
        prompts: dict[str, Sequence[Sequence[str]]] | None = None,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = dict(
                type='SelfSupDataPreprocessor',
                mean=[255 * value for value in open_clip.OPENAI_DATASET_MEAN],
                std=[255 * value for value in open_clip.OPENAI_DATASET_STD],
                to_rgb=False,
            )
        super().__init__(data_preprocessor)
        path = Path(model_name).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f'there is no open_clip model config {model_name}')
        config = json.loads(path.read_text())
        text = config['text_cfg']
        words = (text.get('tokenizer_kwargs') or {}).get('words', ())
        self.tokenizer = WordTokenizer(words, text['context_length'])
        if text['vocab_size'] != self.tokenizer.vocab_size:
            raise ValueError(
                f'{model_name}: text_cfg.vocab_size is {text["vocab_size"]}, but the {len(words)} words of '
                f'tokenizer_kwargs.words with padding, start and end are {self.tokenizer.vocab_size}'
            )
        self.quick_gelu = bool(config.get('quick_gelu', False))
        self.clip = open_clip.CLIP(
            config['embed_dim'],
            config['vision_cfg'],
            text,
            quick_gelu=self.quick_gelu,
            output_dict=True,
        )
        self.loss_module = open_clip.ClipLoss()
        self.prompts = prompts or {}

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> dict | list | Tensor:
        """MMEngine's entry.

        Args:
            inputs: ``(B, 3, H, W)``, normalised.
            data_samples: B samples; ``'loss'`` needs their ``caption``.
            mode: ``'loss'``, ``'predict'`` (zero-shot scores) or ``'tensor'`` (image embeddings).
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return self.clip.encode_image(inputs, normalize=True)

    def loss(self, images: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """open_clip's symmetric InfoNCE over the batch."""
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=torch.tensor(MAX_LOGIT_SCALE).log().item())
        tokens = self.tokenizer([sample.caption for sample in data_samples]).to(images.device)
        return dict(loss=self.loss_module(**self.clip(images, tokens)))

    def predict(self, images: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Zero-shot scores of each attribute, float32 ``(classes,)``, as ``<attribute>_scores``."""
        embeddings = self.clip.encode_image(images, normalize=True).float()
        for attribute, classes in self.prompts.items():
            scores = embeddings @ self._class_embeddings(classes).T
            for sample, row in zip(data_samples, scores, strict=True):
                sample.set_field(row, f'{attribute}_scores')
        return data_samples

    def _class_embeddings(self, classes: Sequence[Sequence[str]]) -> Tensor:
        device = self.clip.logit_scale.device
        means = []
        for prompts in classes:
            means.append(self.clip.encode_text(self.tokenizer(prompts).to(device), normalize=True).mean(0))
        return F.normalize(torch.stack(means).float(), dim=-1)

    def teacher_facts(self) -> dict[str, bool]:
        """What a target generator must know and the weights do not tell."""
        return dict(quick_gelu=self.quick_gelu)

    def teacher_state(self) -> dict[str, Tensor]:
        """The weights that a target generator loads: the whole open_clip model."""
        return self.clip.state_dict()
