"""Train any config: pre-training, fine-tuning, segmentation."""

import mvp_mm.engine as engine


def main() -> None:
    parser = engine.argument_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='without a value: go on from the last checkpoint in the work dir, if there is one; '
        'with a file: go on from that checkpoint',
    )
    parser.add_argument('--amp', action='store_true', help='bf16, on CUDA and CPU')
    parser.add_argument(
        '--no-auto-batch',
        action='store_true',
        help="take the config as it stands, without keeping the recipe's total batch",
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch at hand instead of accumulating gradients',
    )
    parser.add_argument('--no-validate', action='store_true', help='no evaluation while training')
    parser.add_argument('--no-pin-memory', action='store_true', help='for every loader')
    parser.add_argument('--no-persistent-workers', action='store_true', help='for every loader')
    args = parser.parse_args()

    cfg = engine.load_config(args.config, args.work_dir, args.launcher, args.cfg_options)
    engine.require_training(cfg)
    if args.amp:
        engine.use_bf16(cfg)
    if args.resume == 'auto':
        engine.resume_last(cfg)
    elif args.resume is not None:
        cfg.resume, cfg.load_from = True, engine.existing_checkpoint(args.resume)
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr'):
            raise ValueError(
                f'--auto-scale-lr: {args.config} does not tell the batch of its learning rate: it has no '
                'auto_scale_lr.base_batch_size'
            )
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        engine.train_only(cfg)
    for switch in ('pin_memory', 'persistent_workers'):
        if getattr(args, f'no_{switch}'):
            engine.set_loader_option(cfg, switch, False)
    engine.build_runner(cfg, auto_batch=not args.no_auto_batch).train()


if __name__ == '__main__':
    engine.run_command_line(main)
