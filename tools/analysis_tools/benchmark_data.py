"""Images a second on one core: this package's pre-training pipeline, mmpretrain's BEiT and torchvision v2.

Prints Markdown tables; --out adds them, with command, hardware and versions, to a file. One process, one
thread, variants by turns of a few images; medians over rounds, of CPU time, which other programs on the
machine disturb less than the clock.
"""

import argparse
import shlex
import sys
from pathlib import Path

import torch
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed

import mvp_mm.engine as engine
from benchmarks import data as measure
from benchmarks.processor import describe_machine

CONFIG = Path(__file__).parents[2] / 'configs/mvp/vitb16_in1k.py'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='photographs as JPEG files, ImageNet or a sample of it, at any depth')
    parser.add_argument('--config', default=str(CONFIG), help='whose train_pipeline (default: %(default)s)')
    parser.add_argument(
        '--images', type=engine.positive_int, default=400, help='at most so many (default: %(default)s)'
    )
    parser.add_argument('--rounds', type=engine.positive_int, default=7, help='default: %(default)s')
    parser.add_argument('--quick', action='store_true', help='at most 100 images, 3 rounds: for a first look')
    parser.add_argument(
        '--workers', type=engine.positive_int, help='also a whole DataLoader with so many processes'
    )
    parser.add_argument(
        '--reading',
        action='store_true',
        help='instead: files read, not decoded: a folder against shards of it, as they are and at 64x64',
    )
    parser.add_argument('--out', type=Path, help='Markdown file to write')
    args = parser.parse_args()
    if args.quick:
        args.images, args.rounds = min(args.images, 100), min(args.rounds, 3)

    measure.one_thread()
    config = Config.fromfile(args.config)
    paths = measure.image_paths(args.folder, args.images)
    if args.reading:
        tables = '\n\n'.join(
            measure.reading_report(measure.measure_reading(paths, side, args.rounds), what)
            for side, what in ((None, 'photographs as they are'), (64, 'JPEGs of 64x64 pixels'))
        )
    else:
        tables = measure.speed_report(
            measure.measure_pipelines(paths, config, args.rounds),
            measure.measure_stages(paths, config, args.rounds),
        )
    if args.workers is not None:
        found = measure.measure_loader(args.folder, paths, config, args.workers)
        tables += '\n\n' + measure.loader_report(found, args.workers)
    print(tables)
    if args.out:
        command = shlex.join(['python', *sys.argv])
        about = '\n'.join(describe_machine(torch.device('cpu')))
        args.out.write_text(
            f'# Data loading, CPU\n\n{about}\n\n'
            f'```bash\n{command}\n```\n\n{len(paths)} images, medians of {args.rounds} rounds.\n\n{tables}\n'
        )


if __name__ == '__main__':
    engine.run_command_line(main, quiet=True)
