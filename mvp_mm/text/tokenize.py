"""Turn captions into token ids."""

import difflib
import json
import logging
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.logging import print_log
from torch import Tensor


def tokenize(captions: str | Sequence[str], model_name: str) -> Tensor:
    """Turn captions into the token ids, int64 ``(N, context length)``, of an open_clip model's text tower.

    The model is any name of ``open_clip.get_tokenizer``, or the path of a model config (``.json``), whose
    vocabulary is ``text_cfg.tokenizer_kwargs.words`` (see :class:`WordTokenizer`) or else CLIP's.
    """
    return find_tokenizer(model_name)(captions)


def read_model_config(model: str | Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return an open_clip model config: itself, or that in an existing ``.json`` file; None for a name."""
    if isinstance(model, Mapping):
        return model
    path = Path(model).expanduser()
    if path.suffix != '.json':
        return None
    if not path.is_file():
        raise FileNotFoundError(f'there is no open_clip model config {model}')
    return json.loads(path.read_text())


def find_tokenizer(model_name: str | Mapping[str, Any]) -> Any:
    """Return the function, to keep, that :func:`tokenize` builds and calls; it has ``vocab_size``."""
    config = read_model_config(model_name)
    if config is None:
        return open_clip.get_tokenizer(str(model_name))
    text = config['text_cfg']
    options = text.get('tokenizer_kwargs') or {}
    words = options.get('words')
    if words is None:
        tokenizer, what = open_clip.SimpleTokenizer(context_length=text['context_length']), "CLIP's tokens"
    else:
        more = {key: options[key] for key in ('templates', 'unseen') if key in options}
        tokenizer = WordTokenizer(words, text['context_length'], **more)
        what = f'the {len(words)} words of tokenizer_kwargs.words with padding, start and end'
    size = tokenizer.vocab_size
    if text['vocab_size'] != size:
        raise ValueError(f'{model_name}: text_cfg.vocab_size is {text["vocab_size"]}, but {what} are {size}')
    return tokenizer


LISTED = 40  # words of a vocabulary, at most, that an error names all
PIECES = re.compile(r'[^\W_]+|[^\w\s]|_')  # words, and single marks


def words_of(text: str, marks: Container[str] = ()) -> list[str]:
    """Return the words of a text in lower case: its runs of letters and digits, and these single marks."""
    return [piece for piece in PIECES.findall(text.lower()) if piece[0].isalnum() or piece in marks]


class WordTokenizer:
    """Turns sentences of known words into int64 token ids ``(N, context_length)``, start and end included.

    Id 0 is padding, 1 the start; the words follow in the given order. The end of text has the highest id,
    where open_clip's ``argmax`` pooling finds it. Neither case nor marks outside the vocabulary count.

    Args:
        words: The vocabulary, in lower case; a mark such as ``'.'`` is a word, too.
        context_length: Tokens of a text.
        templates: Sentences of these words around a name. Default: the name alone.
        unseen: Those of the words that no caption of the training held; they are warned of, once.

    Raises:
        ValueError: If a word of the vocabulary occurs twice, or is not one word in lower case.
    """

    def __init__(
        self,
        words: Sequence[str],
        context_length: int,
        templates: Sequence[str] = ('{}',),
        unseen: Sequence[str] = (),
    ) -> None:
        if len(set(words)) != len(words):
            raise ValueError('a word of the vocabulary occurs twice')
        if odd := next((word for word in words if words_of(word, [word]) != [word]), None):
            raise ValueError(f'{odd!r} of the vocabulary is not one word in lower case')
        self.ids = {word: number for number, word in enumerate(words, start=2)}
        self.vocab_size = len(words) + 3
        self.context_length = context_length
        self.templates = tuple(templates)
        self.unseen = set(unseen)
        self._told = set[str]()  # of these, the ones warned of

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        texts = [texts] if isinstance(texts, str) else texts
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        found = set[str]()
        for row, text in zip(tokens, texts, strict=True):
            words = words_of(text, self.ids)
            found.update(words)
            unknown = next((word for word in words if word not in self.ids), None)
            if unknown is not None:
                known = [word for word in self.ids if word not in self.unseen]
                told = ' '.join(known)
                if len(known) > LISTED:
                    near = difflib.get_close_matches(unknown, known, 5) or known[:5]
                    told = f'{len(known)} words, such as {", ".join(near)}'
                raise ValueError(f'{unknown!r} is not in the vocabulary: {told}')
            ids = [1, *(self.ids[word] for word in words), self.vocab_size - 1]
            if len(ids) > len(row):
                raise ValueError(f'{text!r} takes {len(ids)} tokens but the context has {len(row)}')
            row[: len(ids)] = torch.tensor(ids)
        if blind := sorted(found & self.unseen - self._told):
            self._told.update(blind)
            told = f'no caption of the training held {", ".join(blind)}: what these find is chance'
            print_log(told, 'current', logging.WARNING)
        return tokens

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words of token ids."""
        words = ['<padding>', '<start>', *self.ids, '<end>']
        return ' '.join(words[number] for number in ids)
