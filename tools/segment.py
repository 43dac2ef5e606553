"""Segment images with a trained model and draw the result over them, with a legend."""

import argparse
from pathlib import Path

from rich.progress import track

from mvp_mm.engine import run_command_line
from mvp_mm.evaluation.segment import load_segmentor, segment_image
from mvp_mm.visualization import draw_overlay, save_overlay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE')
    parser.add_argument('--config', required=True, help='segmentation config')
    parser.add_argument('--checkpoint', required=True, help='its checkpoint')
    parser.add_argument('--out', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--opacity', type=float, default=0.55, help='of the colours (default 0.55)')
    parser.add_argument('--device', help='default: a GPU if there is one')
    args = parser.parse_args()
    model = load_segmentor(args.config, args.checkpoint, args.device)
    meta = model.dataset_meta
    for path in track(args.images, description='Segmenting'):
        image, labels = segment_image(model, path)
        figure = draw_overlay(image, labels, meta['classes'], meta['palette'], args.opacity)
        save_overlay(figure, args.out / f'{path.stem}.png')
    print(f'{len(args.images)} pictures in {args.out}')


if __name__ == '__main__':
    run_command_line(main)
