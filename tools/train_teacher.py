"""Train a teacher (configs/teachers) and write its weights as one small file for a target generator."""

from pathlib import Path

from mmengine.dist import is_main_process

import mvp_mm.engine as engine


def main() -> None:
    parser = engine.argument_parser(__doc__)
    parser.add_argument(
        '--resume', action='store_true', help='go on from the last checkpoint in the work dir'
    )
    parser.add_argument('--amp', action='store_true', help='bf16, on CUDA and CPU')
    parser.add_argument('--out', type=Path, help='default: <work dir>/<config name>.safetensors')
    args = parser.parse_args()

    cfg = engine.load_config(args.config, args.work_dir, args.launcher, args.cfg_options)
    if args.amp:
        engine.use_bf16(cfg)
    if args.resume:
        engine.resume_last(cfg)
    runner = engine.build_runner(cfg)
    runner.train()
    if not is_main_process():
        return
    path = args.out or Path(cfg.work_dir) / f'{Path(args.config).stem}.safetensors'
    digest = engine.save_teacher(runner, path)
    runner.logger.info(f'Teacher written to {path} ({path.stat().st_size / 1e6:.1f} MB, sha256 {digest})')


if __name__ == '__main__':
    engine.run_command_line(main)
