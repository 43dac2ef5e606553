"""Millions of strings in two arrays, which loader workers share."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class PackedStrings(Sequence[str]):
    """Read-only strings as one array of bytes: a list of them would be copied into each loader worker.

    Args:
        strings: Any number of them.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        content, ends = bytearray(), [0]
        for string in strings:
            content += string.encode('utf-8', 'surrogateescape')  # file names may hold any bytes
            ends.append(len(content))
        self._content, self._ends = np.frombuffer(bytes(content), np.uint8), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f'there are {len(self)} strings')
        start, end = self._ends[index : index + 2]
        return self._content[start:end].tobytes().decode('utf-8', 'surrogateescape')
