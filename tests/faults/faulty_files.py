"""A file system of fsspec that fails as networks do: ``faulty://`` and a path of this machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec


class FaultyFileSystem(fsspec.AbstractFileSystem):
    """Copies files slowly, and lets transfers fail.

    Its class holds the plan of this process: each transfer takes the next fault, an error to raise or a
    function of the content that arrives; after the last one all goes well.
    """

    protocol = 'faulty'
    cachable = False
    plan: ClassVar[list[Exception | Callable[[bytes], bytes] | None]] = []
    seconds: ClassVar[float] = 0.0  # of a transfer, half of which are over when half a file is there
    transfers: ClassVar[list[str]] = []  # names

    def info(self, path: str, **kwargs: Any) -> dict:
        """Size, kind and time."""
        state, folder = os.stat(path), os.path.isdir(path)
        return dict(
            name=path, size=state.st_size, type='directory' if folder else 'file', mtime=state.st_mtime_ns
        )

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list:
        """What is in a folder."""
        found = [self.info(entry.path) for entry in os.scandir(path)]
        return found if detail else [entry['name'] for entry in found]

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        """Copy a file, or fail."""
        content = Path(rpath).read_bytes()
        self.transfers.append(os.path.basename(rpath))
        fault = self.plan.pop(0) if self.plan else None
        if isinstance(fault, Exception):
            raise fault
        content = fault(content) if fault is not None else content
        with open(lpath, 'wb', buffering=0) as file:
            for part in (content[: len(content) // 2], content[len(content) // 2 :]):
                time.sleep(self.seconds / 2)
                file.write(part)


fsspec.register_implementation('faulty', FaultyFileSystem, clobber=True)
