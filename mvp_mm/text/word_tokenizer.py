"""A tokenizer for a small, closed vocabulary: one word, one token."""

from collections.abc import Sequence

import torch
from torch import Tensor


class WordTokenizer:
    """Turns sentences of known words into token ids for an open_clip text tower.

    Id 0 is padding, 1 the start; the words follow in the given order. The end of text has the highest id,
    where open_clip's ``argmax`` pooling finds it.

    Args:
        words: The vocabulary.
        context_length: Tokens per sentence, start and end included.

    Raises:
        ValueError: If a word occurs twice.
    """

    def __init__(self, words: Sequence[str], context_length: int) -> None:
        if len(set(words)) != len(words):
            raise ValueError('a word of the vocabulary occurs twice')
        self.ids = {word: number for number, word in enumerate(words, start=2)}
        self.start, self.end = 1, 2 + len(words)
        self.vocab_size = self.end + 1
        self.context_length = context_length

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Return token ids, int64 ``(N, context_length)``.

        Raises:
            ValueError: If a word is unknown or a sentence too long.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            unknown = next((word for word in text.split() if word not in self.ids), None)
            if unknown is not None:
                raise ValueError(f'{unknown!r} is not in the vocabulary: {" ".join(self.ids)}')
            ids = [self.start, *(self.ids[word] for word in text.split()), self.end]
            if len(ids) > self.context_length:
                raise ValueError(
                    f'{text!r} takes {len(ids)} tokens but the context has {self.context_length}'
                )
            row[: len(ids)] = torch.tensor(ids)
        return tokens
