"""Render images into a folder, to try pre-training with nothing to download."""

import argparse
from pathlib import Path

from PIL import Image
from rich.progress import track

import mvp_mm.engine as engine
from mvp_mm.datasets.scenes import SceneCollection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--count', type=int, default=64, help='number of images (default 64)')
    parser.add_argument('--size', type=int, default=160, help='side in pixels (default 160)')
    parser.add_argument('--seed', type=int, default=0, help='which collection (default 0)')
    args = parser.parse_args()
    scenes = SceneCollection('train', args.count, args.size, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    for index in track(range(args.count), description='Rendering'):
        Image.fromarray(scenes[index][0]).save(args.out / f'{index:05d}.png')


if __name__ == '__main__':
    engine.run_command_line(main)
