"""From a sample's caption to the tokens of a text tower."""

from functools import cached_property
from typing import Any

from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS

from ...text.tokenize import find_tokenizer


@TRANSFORMS.register_module()
class TokenizeCaption(BaseTransform):
    """Tokenize ``caption``. Added key: ``text``, int64 ``(L,)``, for ``PackMaskedInputs(fields=('text',))``.

    CLIP's tokenizer cuts a caption that is longer than the context.

    Args:
        model_name: The text tower's open_clip model, by name or config file (``.json``), as for RILS.
        key: Where the caption is. Default ``'caption'``.

    Raises:
        ValueError: If a sample has no caption, or its words are not in the vocabulary.
    """

    def __init__(self, model_name: str, key: str = 'caption') -> None:
        self.model_name, self.key = model_name, key
        self.needs = (key,)  # fields that a source then gives to every sample

    @cached_property
    def _tokenizer(self) -> Any:
        return find_tokenizer(self.model_name)

    def transform(self, results: dict) -> dict:
        """Add the tokens."""
        caption = results.get(self.key)
        if not isinstance(caption, str):
            raise ValueError(
                f'TokenizeCaption: the sample has no {self.key!r} in words, but {", ".join(results)}: take a '
                'source of images with captions, such as SceneImages(captions=True)'
            )
        return dict(results, text=self._tokenizer([caption])[0])
