"""A training on images of which many are bad, in ten ways."""

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvp_mm.engine import build_runner

from .tiny_run import tiny_config, write_photographs
from .training_process import TrainingProcess


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _web_page(path: Path) -> None:
    path.write_text('<!DOCTYPE html><title>404 Not Found</title>')


def _dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name('gone.jpg'))


def _link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _decompression_bomb(path: Path) -> None:
    path.write_bytes(_png(side=14000, rows=zlib.compress(bytes(1751 * 14000), 1)))


def _broken_png(path: Path) -> None:
    path.write_bytes(_png(side=64, rows=zlib.compress(bytes(9 * 64))[:10]))


def _without_header(path: Path) -> None:
    path.write_bytes(bytes(20) + path.read_bytes()[20:])


def _compressed_again(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def _vanishing(path: Path) -> None:
    """Removed when training has found it and not read it yet."""


def _png(side: int, rows: bytes) -> bytes:
    """A black square of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


WAYS: dict[str, Callable[[Path], None]] = {
    'truncated': _truncated,
    'empty': _empty,
    'a web page': _web_page,
    'a dangling link': _dangling_link,
    'a link to itself': _link_to_itself,
    'a decompression bomb': _decompression_bomb,
    'a PNG with half its data': _broken_png,
    'without its header': _without_header,
    'compressed once more': _compressed_again,
    'gone after the folder was read': _vanishing,
}


def spoil(images: Sequence[Path], bad: int) -> dict[Path, str]:
    """Make some of the images bad, evenly spread.

    Args:
        images: Files.
        bad: How many of them.

    Returns:
        The bad ones, and in which of ``WAYS``.
    """
    spoilt = {}
    for number in range(bad):
        path = images[number * len(images) // bad]
        way = list(WAYS)[number % len(WAYS)]
        WAYS[way](path)
        spoilt[path] = way
    return spoilt


class _Remove(Hook):
    """Remove files when the dataset has found them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def before_train(self, runner: Runner) -> None:
        for path in self.paths:
            path.unlink()


def train_with_bad_images(folder: Path, images: int, bad: int, batch: int = 20) -> tuple[dict, dict, str]:
    """Train for one epoch, each image once.

    Args:
        folder: For all of it.
        images: How many; a multiple of twice ``batch``.
        bad: How many of them are bad, at most a tenth.
        batch: Images an iteration.

    Returns:
        The bad ones with the way in which they are, those of ``bad_images.txt`` with the reasons there, and
        the end of the log.

    Raises:
        RuntimeError: If the training does not finish.
    """
    paths = write_photographs((folder / 'images').resolve(), images)
    spoilt = spoil(paths, bad)
    cfg = tiny_config(paths[0].parent, epochs=1, batch=batch)
    cfg.work_dir = str(folder / 'run')
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None  # which would read the bad ones too
    vanishing = [path for path, way in spoilt.items() if WAYS[way] is _vanishing]

    def train() -> None:
        runner = build_runner(cfg)
        runner.register_hook(_Remove(vanishing))
        runner.train()
        if runner.iter != images // batch:
            raise RuntimeError(f'{runner.iter} iterations instead of {images // batch}')

    run = TrainingProcess(train, folder / 'output.log')
    run.wait(1800)
    lines = (folder / 'run' / 'bad_images.txt').read_text().splitlines()
    listed = dict(line.split('\t') for line in lines)
    return spoilt, {Path(path): reason for path, reason in listed.items()}, run.tail(3)
