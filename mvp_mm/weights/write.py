"""Write tensors as safetensors, whose bytes depend on nothing but what they hold."""

import json
from collections.abc import Mapping

from safetensors import torch as safetensors
from torch import Tensor

LENGTH = 8  # bytes that tell the length of the header, a multiple of as many
TEXTS = '__metadata__'


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Serialise tensors and texts: the same ones give the same bytes, and so the same sha256.

    safetensors alone puts the texts into another order in every process.

    Args:
        tensors: By name; views are written as tensors of their own.
        metadata: Texts by name. Default None.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = safetensors.save(whole, None if metadata is None else dict(metadata))
    end = LENGTH + int.from_bytes(content[:LENGTH], 'little')
    header = json.loads(content[LENGTH:end])
    texts = {TEXTS: dict(sorted(header.pop(TEXTS).items()))} if TEXTS in header else {}
    text = json.dumps({**texts, **header}, separators=(',', ':'), ensure_ascii=False).encode()
    text += b' ' * (-len(text) % LENGTH)
    return len(text).to_bytes(LENGTH, 'little') + text + content[end:]
