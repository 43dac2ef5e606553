"""RILS: image and text encoders learn together, and masked patches are named by the batch's sentences.

Shape legend: B batch, (h, w) patch grid, M = h * w patches, V visible ones, C width, D joint embedding width,
N texts of all processes, L context length.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...text.tokenize import find_tokenizer, read_model_config
from ...weights.fill_model import fill_whole
from ...weights.locate import local_path
from ...weights.read import read_tensors
from ..clip.text_encoder import TextEncoder
from ..speaking.speaks import SpeakingAlgorithm
from ..speaking.speech import Speech
from ..speaking.text_tower import TextTower
from ..target_generators.clip_weights import file_sha256
from .contrastive_loss import gather, mean_over_ranks, unit
from .image_projection import ImageProjection
from .rils_decoder import init_as_mae

INITIAL_SCALE = 1 / 0.07  # CLIP's
TEXT = 'text_encoder.'  # what the text encoder's names begin with
MAX_LOG_SCALE = 4.6052  # of the logits, at most 100: the authors' code


@MODELS.register_module()
class RILS(SpeakingAlgorithm, BaseModel):
    """Masked reconstruction in language semantic space (arXiv 2301.06958), beside a contrastive loss.

    The encoder sees an image twice: whole, and its visible patches alone. The mean of the whole image's
    patches meets its sentence in the contrastive loss. The decoder predicts the masked patches, of which the
    batch's sentences must say the same as of the whole image's.

    Args:
        backbone: The image encoder, with absolute positions and a final norm, such as :class:`MVPViT` with
            ``use_abs_pos_emb='sincos'``.
        text_encoder: An open_clip model, by name, config file (``.json``) or config, whose text tower, joint
            width and vocabulary are taken. The weights are random.
        decoder: Default :class:`RILSDecoder`; of ``reconstruction_weight=0`` there is none.
        contrastive_loss: Default :class:`ContrastiveLoss`.
        reconstruction_loss: Default :class:`LanguageReconstructionLoss`.
        reconstruction_weight: Default 0.5 (the authors'); 0: CLIP alone, without a masked pass.
        data_preprocessor: Config. Default :class:`MVPDataPreprocessor`.
        init_cfg: MMEngine initialisation. Default None: Xavier, as MAE's; the text encoder as CLIP's.
    """

    task = 'pretraining'
    batch_coupled = True  # the batch's texts are the negatives, and the space of the reconstruction

    def __init__(
        self,
        backbone: dict | nn.Module,
        text_encoder: str | Mapping[str, Any],
        decoder: dict | nn.Module | None = None,
        contrastive_loss: dict | nn.Module | None = None,
        reconstruction_loss: dict | nn.Module | None = None,
        reconstruction_weight: float = 0.5,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = MODELS.build({'type': 'MVPDataPreprocessor', **(data_preprocessor or {})})
        super().__init__(data_preprocessor, init_cfg)
        if reconstruction_weight < 0:
            raise ValueError(f'reconstruction_weight={reconstruction_weight} is negative')
        self.backbone: Any = _built(backbone)
        if not isinstance(backbone, nn.Module):
            init_as_mae(self.backbone)
        self.text_encoder: Any = TextEncoder.from_config(text_encoder)
        self.tokenizer = find_tokenizer(text_encoder)
        self.text_model = text_encoder
        width: Any = self.backbone.embed_dims
        joint: Any = self.text_encoder.out_channels
        self.neck = ImageProjection(width, joint)
        self._speech = None
        if not isinstance(backbone, nn.Module):
            neck = dict(type='ImageProjection', in_channels=width, out_channels=joint)
            # What a file tells is kept, not its place, so that a checkpoint speaks wherever it lies.
            text = dict(type='RILS', text_encoder=read_model_config(text_encoder) or text_encoder)
            self._speech = Speech.of_config(dict(backbone=backbone, neck=neck, target_generator=text))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))
        self.contrastive_loss: Any = _built(contrastive_loss or dict(type='ContrastiveLoss'))
        self.reconstruction_weight = reconstruction_weight
        self.decoder: Any = None
        if reconstruction_weight:
            self.decoder = _built(decoder or dict(type='RILSDecoder'), **self._decoder_defaults())
            self._build_reconstruction(reconstruction_loss)

    def _decoder_defaults(self) -> dict[str, Any]:
        vit, block = self.backbone, self.backbone.layers[0]
        sizes = dict(num_heads=block.attn.num_heads, feedforward_channels=block.ffn.layers[1].in_features)
        return dict(sizes, embed_dims=vit.embed_dims, grid=vit.window)

    def _build_reconstruction(self, loss: dict | nn.Module | None) -> None:
        self.reconstruction_loss: Any = _built(loss or dict(type='LanguageReconstructionLoss'))

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the encoder's size, on its device."""
        return self.backbone.example_inputs(batch)

    @property
    def text_tower(self) -> TextTower:
        """The text encoder as it is now."""
        scale = self.logit_scale.detach().clamp(max=MAX_LOG_SCALE).exp().item()
        text = self.text_model if isinstance(self.text_model, str) else 'its own config'
        name = f'RILS with the text of {text}'
        return TextTower(self.text_encoder, self.tokenizer, scale, None, name, learns=True)

    @classmethod
    def load_text_tower(cls, identity: Mapping[str, Any], file: str | None = None) -> TextTower:
        """Load the text encoder of a checkpoint, ``file``, by the ``teacher`` of :meth:`speech`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If no file is given, or it has no such text encoder.
        """
        if file is None:
            raise ValueError('its text encoder is in the checkpoint of the training only: give it as teacher')
        path, model = local_path(file), identity['text_encoder']
        weights, encoder = read_tensors(path), TextEncoder.from_config(model)
        own = {name.removeprefix(TEXT): value for name, value in weights.items() if name.startswith(TEXT)}
        fill_whole(encoder, own, f'the text encoder of {file}')
        scale = weights['logit_scale'].clamp(max=MAX_LOG_SCALE).exp().item()
        return TextTower(encoder, find_tokenizer(model), scale, file_sha256(path), f'RILS in {file}')

    def speech(self) -> dict[str, Any] | None:
        """See :meth:`.MVP.speech`; the text encoder lies in the checkpoint itself."""
        if self._speech is None:
            return None
        mean, std = (values.flatten().tolist() for values in (self.image_mean, self.image_std))
        return replace(self._speech, mean=mean, std=std).plain()

    def forward(
        self,
        inputs: Tensor,
        data_samples: list | None = None,
        mask: Tensor | None = None,
        text: Tensor | None = None,
        mode: str = 'tensor',
        **fields: Any,
    ) -> Any:
        """Do as ``mode`` says: ``'loss'``, or ``'tensor'`` (the encoder's output of whole images)."""
        if mode == 'loss':
            return self.loss(inputs, mask, text)
        if mode == 'tensor':
            return self.backbone(inputs)
        raise ValueError(f"mode={mode!r} is none of 'loss', 'tensor': evaluate RILS by `evaluators`")

    def loss(
        self, inputs: Tensor, mask: Tensor | None = None, text: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the training losses, L_con + 0.5 L_rec in the paper.

        Args:
            inputs: ``(B, 3, H, W)``, normalised.
            mask: ``(B, h, w)`` bool, True = masked; not needed where nothing is reconstructed.
            text: Token ids of the images' sentences, int64 ``(B, L)``.

        Returns:
            ``loss_contrastive``, ``loss_reconstruction`` (weighted) and, in percent over the images of all
            processes, ``retrieval_accuracy``: how many find their own sentence first.

        Raises:
            ValueError: If there are no texts, or no mask where one is needed.
        """
        if text is None or text.shape[0] != inputs.shape[0]:
            found = 'none' if text is None else f'{len(text)} for {len(inputs)} images'
            raise ValueError(
                f'RILS needs the tokens of a sentence for every image, got {found}: put TokenizeCaption into '
                "the pipeline, and PackMaskedInputs(fields=('text',)) last"
            )
        with torch.no_grad():
            self.logit_scale.clamp_(max=MAX_LOG_SCALE)
        _, patches = self.backbone.encode_image(inputs)
        images = self.neck(patches.mean(1))
        texts = self.text_encoder.encode(text)
        losses = dict(loss_contrastive=self.contrastive_loss(images, texts, self.logit_scale.exp()))
        all_texts = gather(unit(texts), with_grad=False)
        retrieved = self._retrieved(images, all_texts)
        if self.decoder is not None:
            if mask is None:
                raise ValueError('RILS needs a mask for every image: put RandomMask before PackMaskedInputs')
            prediction = self.decoder(self.backbone.encode_visible(inputs, mask), mask)[:, 1:]
            loss = self.reconstruct(prediction, patches, all_texts, mask.flatten(1), retrieved, inputs)
            losses['loss_reconstruction'] = self.reconstruction_weight * loss
        losses['retrieval_accuracy'] = mean_over_ranks(100 * retrieved.float().mean())
        return losses

    @torch.no_grad()
    def _retrieved(self, images: Tensor, texts: Tensor) -> Tensor:
        """Whether each image's own text, of all processes' ``(N, D)``, is its first: bool ``(B,)``."""
        with torch.autocast(images.device.type, enabled=False):
            first = (unit(images) @ texts.T).argmax(1)
        return first == torch.arange(len(images), device=first.device) + get_rank() * len(images)

    def reconstruct(
        self,
        prediction: Tensor,
        patches: Tensor,
        texts: Tensor,
        mask: Tensor,
        retrieved: Tensor,
        images: Tensor,
    ) -> Tensor:
        """Compute L_rec, unweighted, of tokens ``(B, M, C)`` by the decoder and of the whole images.

        The next three are as for :meth:`LanguageReconstructionLoss.forward`; the images ``(B, 3, H, W)`` are
        for other targets.
        """
        with torch.no_grad():
            target = self.neck(patches)
        return self.reconstruction_loss(self.neck(prediction), target, texts, mask, retrieved)


def _built(part: dict | nn.Module, **defaults: Any) -> nn.Module:
    return part if isinstance(part, nn.Module) else MODELS.build(part, default_args=defaults)
