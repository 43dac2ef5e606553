"""Load the text tower of an open_clip model from the file that its vision tower comes from."""

from collections.abc import Callable
from typing import Any

import open_clip
import torch

from ...text.tokenize import find_tokenizer
from ..clip.clip import MAX_LOGIT_SCALE
from ..clip.text_encoder import NO_VISION, TextEncoder
from ..speaking.text_tower import TextTower
from .clip_weights import LOCAL, VISUAL, CLIPSource, file_sha256, read_clip
from .teacher_weights import fill_strictly, same_random_weights

TEXT = 'text.'  # the text branch in the state dict of a model that open_clip calls custom


def load_clip_text(source: CLIPSource, pretrained: str | bool | None, cache_dir: str | None) -> TextTower:
    """Load the text tower and the logit scale, float32, on the CPU; arguments as of the generator.

    Raises:
        ValueError: If the model or its file has no text tower that :class:`TextEncoder` can run.
    """
    text = dict(source.config.get('text_cfg') or {})
    cannot = f'{source.name} cannot speak: '
    if not text or 'hf_model_name' in text:
        kind = "is transformers' " + text['hf_model_name'] if text else 'is missing'
        raise ValueError(f"{cannot}its text tower {kind}; expected open_clip's own, as in ViT-B-16")
    custom = bool(source.config.get('custom_text'))
    build = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    path, tensors = read_clip(source, pretrained, cache_dir)
    with same_random_weights():
        clip: Any = build(
            source.config['embed_dim'], NO_VISION, text, quick_gelu=bool(source.config.get('quick_gelu'))
        )
    if path is not None:
        if custom:
            tensors = open_clip.model.convert_to_custom_text_state_dict(tensors)
        own = {name: value for name, value in clip.state_dict().items() if not name.startswith(VISUAL)}
        if not any(name in tensors for name in own):
            raise ValueError(f'{cannot}{path} holds its vision tower only: give the file of the whole model')
        with torch.no_grad():
            fill_strictly(own, tensors, path, source.name, required=TEXT if custom else ())
    scale = min(float(clip.logit_scale.detach().exp()), MAX_LOGIT_SCALE)
    try:
        encoder = TextEncoder(clip)
    except ValueError as error:
        raise ValueError(f'{cannot}{error}') from None
    identity = None if path is None else file_sha256(path)
    return TextTower(encoder, _tokenizer(source), scale, identity, source.name, settings=source.config)


def _tokenizer(source: CLIPSource) -> Callable:
    if source.origin is None and source.file is not None:  # a model config of the user's own
        return find_tokenizer(str(source.file))
    is_folder = source.origin is not None and not isinstance(source.origin, str)
    return find_tokenizer(f'{LOCAL}{source.origin}' if is_folder else source.name)
