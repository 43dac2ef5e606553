"""Draw a sheet of the embedded scenes with their label maps and captions."""

import argparse
from pathlib import Path

import mvp_mm.engine as engine
from mvp_mm.datasets.scenes import DIFFICULTIES, SPLITS, SceneCollection
from mvp_mm.visualization.scene_sheet import draw_scene_sheet
from mvp_mm.wording import counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=Path('scenes.png'), help='PNG or PDF (default scenes.png)'
    )
    parser.add_argument('--count', type=engine.positive_int, default=24, help='number of scenes (default 24)')
    parser.add_argument('--columns', type=engine.positive_int, default=6, help='scenes per row (default 6)')
    parser.add_argument('--size', type=int, default=64, help='side in pixels (default 64)')
    parser.add_argument('--split', choices=SPLITS, default='train', help='default train')
    parser.add_argument('--seed', type=int, default=0, help='which collection (default 0)')
    parser.add_argument(
        '--difficulty', choices=list(DIFFICULTIES), default='standard', help='default standard'
    )
    args = parser.parse_args()
    scenes = SceneCollection(args.split, args.count, args.size, args.seed, args.difficulty)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw_scene_sheet(scenes, args.out, args.columns)
    print(f'{counted(args.count, "scene")} drawn to {args.out}')


if __name__ == '__main__':
    engine.run_command_line(main)
