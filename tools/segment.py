"""Segment images with a trained model and draw the result over them, with a legend."""

import argparse
from pathlib import Path

from rich.progress import track

from mvp_mm.datasets.sources.unreadable_file import unreadable_files_named
from mvp_mm.engine import existing_checkpoint, load_config, run_command_line
from mvp_mm.evaluation.picture_files import image_files, picture_files, usable_device
from mvp_mm.evaluation.segment import load_segmentor, segment_image
from mvp_mm.visualization import draw_overlay, save_overlay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'images', nargs='+', type=Path, metavar='IMAGE', help='image files, and folders of images'
    )
    parser.add_argument('--config', required=True, help='segmentation config')
    parser.add_argument('--checkpoint', required=True, help='its checkpoint')
    parser.add_argument('--out', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--opacity', type=float, default=0.55, help='of the colours, 0 to 1 (default 0.55)')
    parser.add_argument('--device', help='default: a GPU if there is one')
    args = parser.parse_args()
    if not 0 <= args.opacity <= 1:
        raise ValueError(f'--opacity {args.opacity:g}: expected a number from 0 to 1')
    images = image_files(args.images)
    pictures = picture_files(images, args.out)
    device = args.device and usable_device(args.device)
    if 'decode_head' not in load_config(args.config).model:
        raise ValueError(f'{args.config} is no segmentation config: take one of configs/upernet')
    model = load_segmentor(args.config, existing_checkpoint(args.checkpoint), device)
    meta = model.dataset_meta
    for path, picture in track(list(zip(images, pictures, strict=True)), description='Segmenting'):
        with unreadable_files_named(path):
            image, labels = segment_image(model, path)
        figure = draw_overlay(image, labels, meta['classes'], meta['palette'], args.opacity)
        save_overlay(figure, picture)
    print(f'{len(images)} pictures in {args.out}')


if __name__ == '__main__':
    run_command_line(main)
