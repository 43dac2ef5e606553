"""Test any config with a checkpoint."""

from mmengine.dist import is_main_process
from mmengine.fileio import dump

import mvp_mm.engine as engine


def main() -> None:
    parser = engine.argument_parser(__doc__)
    parser.add_argument('checkpoint', help="checkpoint file or address, or a model's name")
    parser.add_argument('--out', help='write the metrics to this JSON file')
    parser.add_argument('--tta', action='store_true', help='multi-scale and flip')
    args = parser.parse_args()

    cfg = engine.load_config(args.config, args.work_dir, args.launcher, args.cfg_options)
    cfg.load_from = engine.existing_checkpoint(args.checkpoint)
    if args.tta:
        engine.use_test_time_augmentation(cfg)
    metrics = engine.build_runner(cfg).test()
    if args.out and is_main_process():
        dump(metrics, args.out, file_format='json')


if __name__ == '__main__':
    engine.run_command_line(main)
