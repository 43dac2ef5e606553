"""Turn captions into token ids."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from .word_tokenizer import WordTokenizer


def tokenize(captions: str | Sequence[str], model_name: str) -> Tensor:
    """Turn captions into the token ids that an open_clip model's text tower takes.

    Args:
        captions: One or several.
        model_name: Path of an open_clip model config (``.json``), whose vocabulary is
            ``text_cfg.tokenizer_kwargs.words`` or else CLIP's; or any name of ``open_clip.get_tokenizer``.

    Returns:
        int64 ``(N, context length)``.

    Raises:
        ValueError: If the config's vocabulary and ``vocab_size`` do not fit, or a word is not in it.
    """
    return find_tokenizer(model_name)(captions)


def find_tokenizer(model_name: str) -> Any:
    """Return the function, to keep, that :func:`tokenize` builds and calls; it has ``vocab_size``."""
    path = Path(model_name).expanduser()
    if path.suffix != '.json':
        return open_clip.get_tokenizer(model_name)
    text = json.loads(path.read_text())['text_cfg']
    words = (text.get('tokenizer_kwargs') or {}).get('words')
    if words is None:
        tokenizer, what = open_clip.SimpleTokenizer(context_length=text['context_length']), "CLIP's tokens"
    else:
        tokenizer = WordTokenizer(words, text['context_length'])
        what = f'the {len(words)} words of tokenizer_kwargs.words with padding, start and end'
    size = tokenizer.vocab_size
    if text['vocab_size'] != size:
        raise ValueError(f'{model_name}: text_cfg.vocab_size is {text["vocab_size"]}, but {what} are {size}')
    return tokenizer
