"""CoOp: learnt vectors in place of the words around a class's name (arXiv 2109.01134).

Shape legend: N names, M context vectors, C width of the text tower, D joint width, L tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..compilation import require_choice
from ..speaking.text_tower import TextTower

NUM_CONTEXT = 16  # CoOp §3.1
INIT_STD = 0.02  # CoOp §3.1
POOLS = ('argmax', 'eos')  # of the end of text, up to which a prompt can be lengthened


class Layout(NamedTuple):
    """How prompts are put together from context vectors and the tokens of names."""

    tokens: Tensor  # of start, name, closing, end and padding, int64 (N, L)
    order: Tensor  # where each embedding comes from: a context vector, or M + a token, int64 (N, <= L)
    end: Tensor  # position of the end of text, int64 (N,)


@MODELS.register_module()
class CoOp(BaseModule):
    """Context vectors that are trained, before, around or behind the names of classes.

    A prompt is: start, context and name, closing, end of text. Only the context has parameters.

    Args:
        text_tower: Embeds the prompts. Given by :class:`PromptClassifier`, as ``class_names`` is.
        num_context: M. Default None: the number of tokens of ``init``, or 16 (paper).
        init: Words that the vectors start from, such as ``'a photo of a'``. Default None: normal(0, 0.02).
        position: Of the name: ``'end'`` (default), ``'middle'`` or ``'front'``.
        class_specific: Learn vectors for each name; they know no other names then. Default False: shared.
        class_names: The names, where ``class_specific``.
        closing: Text behind name and context. Default ``'.'`` (the authors'); ``''`` for words without one.

    Attributes:
        context (nn.Parameter): ``(M, C)``, or ``(N, M, C)``.

    Raises:
        ValueError: If an argument is none of the above, or prompts do not fit the context of the tower.
    """

    conditional = False  # whether embeddings depend on the image

    def __init__(
        self,
        text_tower: TextTower,
        num_context: int | None = None,
        init: str | None = None,
        position: str = 'end',
        class_specific: bool = False,
        class_names: Sequence[str] = (),
        closing: str = '.',
    ) -> None:
        super().__init__()
        require_choice(position, 'position', ('end', 'middle', 'front'))
        pool_type = text_tower.encoder.pool_type
        if pool_type not in POOLS:
            raise ValueError(
                f'{text_tower.name} pools its texts by {pool_type!r}: learning prompts needs an end of text '
                'that stands for the text, as in ViT-B-16'
            )
        self.text_tower = text_tower  # no module, so its weights are not the learner's
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self.position, self.closing = position, closing
        self.class_names = tuple(class_names) if class_specific else ()
        if class_specific and not self.class_names:
            raise ValueError('class_specific=True needs class_names')
        context = self._initial(init, num_context)
        if num_context not in (None, len(context)):
            raise ValueError(f'num_context={num_context}, but init={init!r} has {len(context)} tokens')
        self.num_context = len(context)
        if self.class_names:
            context = context.repeat(len(self.class_names), 1, 1)
            if not init:
                nn.init.normal_(context, std=INIT_STD)
        self.context = nn.Parameter(context)
        if self.class_names:
            self.layout(self.class_names)  # which raises where they do not fit

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments, as plain data, that make a learner of this one's shape."""
        own = dict(num_context=self.num_context, position=self.position, closing=self.closing)
        return own | dict(class_specific=bool(self.class_names), class_names=list(self.class_names))

    def forward(self, names: Sequence[str], image_features: Tensor | None = None) -> Tensor:
        """Embed the prompts of N names: ``(N, D)`` float32, L2-normalised. Images have no influence.

        ValueError if a name is empty, too long or, for class-specific vectors, unknown.
        """
        return self.embed(self.contexts(image_features), names)

    def contexts(self, image_features: Tensor | None = None) -> Tensor:
        """Return the context vectors, as :meth:`embed` takes them."""
        return self.context

    def embed(self, context: Tensor, names: Sequence[str]) -> Tensor:
        """Embed prompts of a context, ``(M, C)``, ``(N, M, C)`` or ``(B, 1, M, C)``: unit ``(..., N, D)``."""
        encoder, layout = self.text_tower.encoder, self.layout(tuple(names))
        words = encoder.token_embedding(layout.tokens).float()
        batch = context.shape[:-3] if context.ndim == 4 else ()
        context = context.expand(*batch, len(words), *context.shape[-2:])
        parts = torch.cat([context, words.expand(*batch, *words.shape)], dim=-2).flatten(0, -3)
        order = layout.order.repeat(len(parts) // len(words), 1)
        prompts = parts.gather(1, order[..., None].expand(-1, -1, parts.shape[-1]))
        ends = layout.end.repeat(len(parts) // len(words))
        embedded = F.normalize(encoder.encode_embeddings(prompts, ends).float(), dim=-1)
        return embedded.unflatten(0, (*batch, len(words)))

    def layout(self, names: tuple[str, ...]) -> Layout:
        """Lay out the prompts of names, on the tower's device; the last ones asked for are kept."""
        device = self.text_tower.encoder.positional_embedding.device
        kept = self._layouts.get(names)
        if kept is None or kept.tokens.device != device:
            if len(self._layouts) > 8:
                self._layouts.clear()
            kept = self._layouts[names] = Layout(*(part.to(device) for part in self._lay_out(names)))
        return kept

    def _lay_out(self, names: tuple[str, ...]) -> Layout:
        if self.class_names and names != self.class_names:
            raise ValueError(
                f'class-specific prompts know their own {len(self.class_names)} names only, in their order: '
                'learn shared ones to name other classes'
            )
        if not names or not all(name.strip() for name in names):
            raise ValueError('a class has an empty name: expected words')
        plain = [name.replace('_', ' ').strip() for name in names]
        tokens, ends = self._tokens([name + self.closing for name in plain])
        lengths = self._tokens(plain)[1] - 1  # of the names, without the start
        self._require_fit(plain, lengths, tokens.shape[1])
        count, ends = self.num_context, ends + self.num_context
        # Behind the end of text nothing is seen if attention is causal.
        causal = self.text_tower.encoder.attn_mask is not None
        width = int(ends.max()) + 1 if causal else tokens.shape[1]
        before = dict(end=count, middle=count // 2, front=0)[self.position]
        vector, word = range(count), range(count, count + width)  # places among vectors, then tokens
        order = [
            [word[0], *vector[:before], *word[1 : 1 + length], *vector[before:], *word[1 + length :]][:width]
            for length in lengths.tolist()
        ]
        return Layout(tokens, torch.tensor(order), ends)

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = self.text_tower.tokenizer(list(texts))
        return tokens, self.text_tower.encoder.end_of(tokens)

    def _require_fit(self, names: Sequence[str], lengths: Tensor, limit: int) -> None:
        closing = int(self._tokens([self.closing])[1]) - 1 if self.closing else 0
        room = limit - 2 - closing - self.num_context
        if room < 1:
            raise ValueError(
                f'num_context={self.num_context} leaves no room for a name: the context of '
                f'{self.text_tower.name} has {limit} tokens, start and end included'
            )
        longest = int(lengths.argmax())
        if lengths[longest] > room:
            raise ValueError(
                f'the class name {names[longest][:60]!r} is too long: the context of {self.text_tower.name} '
                f'({limit}) has room for {room} beside num_context={self.num_context}'
            )

    def _initial(self, words: str | None, num_context: int | None) -> Tensor:
        embedding = self.text_tower.encoder.token_embedding
        device = embedding.weight.device
        if words:
            tokens, ends = self._tokens([words])
            if int(ends) < 2:
                raise ValueError(f'init={words!r} has no words')
            return embedding(tokens[0, 1 : int(ends)].to(device)).detach().float().clone()
        count = NUM_CONTEXT if num_context is None else num_context
        if count < 1:
            raise ValueError(f'num_context={count}: expected 1 or more')
        return nn.init.normal_(torch.empty(count, embedding.weight.shape[1], device=device), std=INIT_STD)
