"""Write files whole or not at all, and tensors as bytes that depend on nothing but what they hold."""

import errno
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import torch as safetensors
from torch import Tensor

LENGTH = 8  # bytes that tell the length of the header, a multiple of as many
TEXTS = '__metadata__'
FULL = (errno.ENOSPC, errno.EDQUOT)


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


@contextmanager
def whole_file(path: Path, advice: str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; flush it and rename it on exit, or delete it after a failure.

    Raises:
        OSError: If the disk is full; ``advice`` says what to do.
    """
    temporary = path.with_name(f'.{path.name}.{socket.gethostname()}-{os.getpid()}.partial')
    try:
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, f'the disk is full while writing {path}: {advice}') from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
