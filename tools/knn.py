"""k-NN accuracy of a checkpoint on a labelled folder, without training (DINO's protocol).

The config is any classification config, for example configs/finetune/vitb16_in1k.py; the checkpoint is a
pre-training checkpoint as it is, a fine-tuned one, or the word random, for an untrained network to compare
with. The feature is what the config's head would see: there, the mean of the patch tokens.
Any folder DIR/{train,val}/<class>/* will do, of whatever number of classes:
--cfg-options train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR
For DINO's own choice, the normalised CLS token, add
--cfg-options model.backbone.out_type=cls_token model.backbone.final_norm=True
"""

from mmengine.device import get_device
from mmengine.fileio import dump
from mmengine.logging import MMLogger, print_log
from mmengine.runner import set_random_seed

import mvp_mm.engine as engine
from mvp_mm.evaluation import knn
from mvp_mm.evaluation.picture_files import usable_device
from mvp_mm.models.from_config import build_from_config
from mvp_mm.visualization.viewed_model import RANDOM


def main() -> None:
    parser = engine.argument_parser(__doc__)
    parser.add_argument(
        'checkpoint', help=f"checkpoint file or address, a model's name, or {RANDOM} for a network untrained"
    )
    parser.add_argument('--k', type=int, nargs='+', default=knn.KS, help='numbers of neighbours')
    parser.add_argument(
        '--temperature', type=engine.positive_float, default=knn.TEMPERATURE, help='of the votes'
    )
    parser.add_argument(
        '--pool',
        choices=['head', 'avg', 'cls'],
        default='head',
        help="an image's feature: what the config's head sees, the mean patch token, or the CLS token",
    )
    parser.add_argument('--dtype', choices=['float32', 'float16'], default='float32', help='kept features')
    parser.add_argument(
        '--query-chunk', type=engine.positive_int, default=1024, help='validation images at a time'
    )
    parser.add_argument(
        '--train-chunk', type=engine.positive_int, default=32768, help='training images at a time'
    )
    parser.add_argument('--device', default=None, help='default: a GPU where there is one')
    parser.add_argument('--out', help='write the accuracies to this JSON file')
    args = parser.parse_args()
    if args.launcher != 'none':
        parser.error(f'--launcher {args.launcher}: k-NN runs in one process')
    if min(args.k) < 1:
        parser.error(f'--k {min(args.k)} is no number of neighbours: give 1 or more')

    cfg = engine.load_config(args.config, args.work_dir, args.launcher, args.cfg_options)
    datasets = knn.feature_datasets(cfg)
    MMLogger.get_instance('knn')
    device = usable_device(args.device or get_device())
    set_random_seed(cfg.get('randomness', {}).get('seed') or 0)
    checkpoint = None if args.checkpoint == RANDOM else args.checkpoint
    model = build_from_config(cfg, checkpoint, head=False).to(device)
    query, train = (
        engine.MVPRunner.build_dataloader(dict(cfg.val_dataloader, dataset=dataset))
        for dataset in datasets[::-1]
    )
    evaluator = knn.KNN(
        query, train, args.k, args.temperature, args.pool, args.dtype, args.query_chunk, args.train_chunk
    )
    accuracies = evaluator.accuracies(model)
    for accuracy in accuracies:
        print_log(str(accuracy), 'current')
    if args.out:
        tops = {f'{a.k}-NN': dict(top1=a.top1, top5=a.top5) for a in accuracies}
        figures = {
            k: {name: top for name, top in pair.items() if top is not None} for k, pair in tops.items()
        }
        dump(figures, args.out, file_format='json')


if __name__ == '__main__':
    engine.run_command_line(main)
