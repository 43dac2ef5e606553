"""Test any config with a checkpoint."""

import argparse
import os

from mmengine.config import DictAction


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for the log and the metrics')
    parser.add_argument('--out', help='write the metrics to this JSON file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override config values, for example test_dataloader.dataset.data_root=DIR',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from mmengine.dist import is_main_process
    from mmengine.fileio import dump

    import mvp_mm.engine as engine

    cfg = engine.load_config(args.config, args.work_dir, args.launcher, args.cfg_options)
    cfg.load_from = args.checkpoint
    metrics = engine.build_runner(cfg).test()
    if args.out and is_main_process():
        dump(metrics, args.out, file_format='json')


if __name__ == '__main__':
    main()
