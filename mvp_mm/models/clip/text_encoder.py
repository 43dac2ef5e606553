"""open_clip's text tower, from tokens or from embeddings of one's own."""

from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from ...text.tokenize import read_model_config
from ..backbones.multihead_attention import use_faster_attention

# open_clip builds both towers; a vision tower that is not wanted would cost memory.
NO_VISION = dict(image_size=16, patch_size=16, width=8, head_width=8, layers=1)
PARTS = ('token_embedding', 'positional_embedding', 'transformer', 'ln_final', 'text_projection', 'attn_mask')


class TextEncoder(nn.Module):
    """The text tower of an open_clip model, sharing its parameters.

    Shape legend: N texts, L context length, C width, D joint embedding width.

    Args:
        clip: open_clip's ``CLIP``, or ``CustomTextCLIP`` with open_clip's own text transformer.

    Raises:
        ValueError: If the text tower is another (transformers', CoCa's), masks padding, or pools several.
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        tower: Any = getattr(clip, 'text', clip)  # CLIP itself holds the parts of its text tower
        missing = [name for name in PARTS if not hasattr(tower, name)]
        pool_type = getattr(clip, 'text_pool_type', getattr(tower, 'pool_type', None))
        reasons = {
            f'it has no {", no ".join(missing)}': missing,
            'it appends a CLS token, as CoCa does': getattr(tower, 'cls_emb', None) is not None,
            'it masks padding, which embeddings do not show': getattr(tower, 'use_pad_mask', False),
            f'{pool_type=} does not choose one token': pool_type not in ('argmax', 'eos', 'first', 'last'),
        }
        if reason := next(filter(reasons.get, reasons), None):
            raise ValueError(
                f"the text tower of {type(clip).__name__} cannot be used: {reason}; expected open_clip's "
                'TextTransformer, as in ViT-B-16'
            )
        self.token_embedding, self.positional_embedding = tower.token_embedding, tower.positional_embedding
        self.transformer, self.ln_final = tower.transformer, tower.ln_final
        self.text_projection = tower.text_projection
        self.attn_mask: Tensor | None
        self.register_buffer('attn_mask', tower.attn_mask, persistent=False)
        self.pool_type = pool_type
        use_faster_attention(self.transformer)
        self.end_token: Any = getattr(clip, 'text_eos_id', getattr(tower, 'eos_id', None))

    @classmethod
    def from_config(cls, model_name: str | Mapping[str, Any]) -> 'TextEncoder':
        """Build the text tower of an open_clip model, initialised as CLIP's, to be trained.

        Args:
            model_name: Any of ``open_clip.list_models()``, a model config, or the path of one (``.json``).

        Raises:
            FileNotFoundError: If there is no such config.
            ValueError: If open_clip does not know the name.
        """
        config = read_model_config(model_name) or open_clip.get_model_config(model_name)
        if config is None:
            raise ValueError(f'open_clip knows no {model_name!r}: give one of open_clip.list_models()')
        sizes = config['embed_dim'], NO_VISION, config['text_cfg']
        return cls(open_clip.CLIP(*sizes, quick_gelu=bool(config.get('quick_gelu'))))

    @property
    def out_channels(self) -> int:
        """Joint embedding width D."""
        project = self.text_projection
        if project is None:
            return self.ln_final.weight.shape[0]
        return project.out_features if isinstance(project, nn.Linear) else project.shape[1]

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``(N, L)`` as open_clip's ``encode_text``: ``(N, D)``, not normalised."""
        return self.encode_embeddings(self.token_embedding(tokens), self.end_of(tokens))

    def encode_embeddings(self, embeddings: Tensor, end: Tensor) -> Tensor:
        """Encode token embeddings, such as a learnt prompt and a class name: ``(N, D)``, not normalised.

        Args:
            embeddings: ``(N, L, C)``, without positions; L may be shorter than the context.
            end: int64 ``(N,)``, the position of the token that stands for the text: the end of text.
        """
        length = embeddings.shape[1]
        if length > len(self.positional_embedding):
            raise ValueError(f'{length} embeddings, but the context is {len(self.positional_embedding)}')
        dtype = self.transformer.get_cast_dtype()
        hidden = embeddings.to(dtype) + self.positional_embedding[:length].to(dtype)
        mask = None if self.attn_mask is None else self.attn_mask[:length, :length]
        hidden = self.ln_final(self.transformer(hidden, attn_mask=mask))
        pooled, project = hidden[torch.arange(len(hidden), device=hidden.device), end], self.text_projection
        if project is None:
            return pooled
        return project(pooled) if isinstance(project, nn.Module) else pooled @ project

    def end_of(self, tokens: Tensor) -> Tensor:
        """Position of each text's pooled token, int64 ``(N,)``, from ``(N, L)``."""
        if self.pool_type == 'argmax':  # the end of text has the highest number
            return tokens.argmax(dim=-1)
        if self.pool_type == 'eos':
            return tokens.eq(self.end_token).int().argmax(dim=-1)
        return torch.full_like(tokens[:, 0], 0 if self.pool_type == 'first' else tokens.shape[1] - 1)
