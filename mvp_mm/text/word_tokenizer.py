"""A tokenizer for a small, closed vocabulary: one word, one token."""

from collections.abc import Sequence

import torch
from torch import Tensor


class WordTokenizer:
    """Turns sentences of known words into what an open_clip text tower takes.

    Tokens: 0 is padding, 1 the start, the words follow in the order given, and the end of text has the
    highest number, where open_clip's ``argmax`` pooling finds it.

    Args:
        words: The vocabulary.
        context_length: Tokens a sentence, start and end included.

    Raises:
        ValueError: If a word occurs twice.
    """

    def __init__(self, words: Sequence[str], context_length: int) -> None:
        if len(set(words)) != len(words):
            raise ValueError('a word of the vocabulary occurs twice')
        self.ids = {word: number for number, word in enumerate(words, start=2)}
        self.start, self.end = 1, 2 + len(words)
        self.context_length = context_length

    @property
    def vocab_size(self) -> int:
        """Words, padding, start and end."""
        return self.end + 1

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Tokens of one or several sentences, int64 ``(N, context_length)``.

        Raises:
            ValueError: If a word is unknown or a sentence too long.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            row_ids = [self.start, *map(self._id, text.split()), self.end]
            if len(row_ids) > self.context_length:
                raise ValueError(
                    f'{text!r} takes {len(row_ids)} tokens but the context has {self.context_length}'
                )
            row[: len(row_ids)] = torch.tensor(row_ids)
        return tokens

    def _id(self, word: str) -> int:
        if word not in self.ids:
            raise ValueError(f'{word!r} is not in the vocabulary: {" ".join(self.ids)}')
        return self.ids[word]
