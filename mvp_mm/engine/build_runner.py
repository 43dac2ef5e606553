from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from ..models.follow_checkpoint import follow_first_readable
from .checkpoint.safe_checkpoint import saved_checkpoints
from .config_check import require_device_for
from .distributed.process_group import begin_process_group
from .loops.evaluator_loop import use_evaluators
from .mvp_runner import MVPRunner


def build_runner(cfg: Config, auto_batch: bool = True) -> Runner:
    """Build the runner of a config: of its ``runner_type``, or :class:`MVPRunner`.

    Args:
        cfg: Config, changed in place.
        auto_batch: Keep the recipe's total batch (see :class:`MVPRunner`), or take the config as it stands.

    Raises:
        ValueError: If a strategy such as FSDP's is to train a method whose loss couples the batch.
    """
    require_device_for(cfg)
    kind = MODELS.get(cfg.model.get('type') or '')
    if cfg.get('strategy') and getattr(kind, 'batch_coupled', False):
        raise ValueError(
            f'{cfg.model.type} is not trained by {cfg.strategy.type}: its loss couples the samples of a '
            "batch, whose size MMEngine's runner does not watch, and FSDP shards no scalar, such as its "
            'logit scale. Leave out runner_type and strategy: DDP trains it'
        )
    if not auto_batch and cfg.get('auto_scale_lr') and not cfg.auto_scale_lr.get('enable', False):
        cfg.auto_scale_lr = None
    wanted = cfg.get('resume')
    found = wanted and (cfg.get('load_from') or saved_checkpoints(cfg.work_dir))
    if wanted and not found:
        cfg.resume = False
    backbone = cfg.model.get('module', cfg.model).get('backbone', {})  # the former is of --tta
    init_cfg = backbone.get('init_cfg') or {}
    given = cfg.get('load_from') or init_cfg.get('checkpoint')
    sources = found if isinstance(found, list) else [given] if given else []
    followed = ''
    if getattr(kind, 'task', None) != 'pretraining':  # which has its own kind
        followed = follow_first_readable(backbone, sources, init_cfg.get('prefix'))
    # resume and load_from supply the backbone, so drop init_cfg
    supplied = found or (cfg.get('load_from') and not init_cfg.get('checkpoint'))
    if supplied and init_cfg.get('type') == 'Pretrained':
        backbone.init_cfg = None
    follow_num_classes(cfg)
    if 'runner_type' in cfg:
        use_evaluators(cfg)  # as MVPRunner does: an FSDP run evaluates by the same loop
        begin_process_group(cfg.launcher, cfg.get('env_cfg', {}).get('dist_cfg'))
        return RUNNERS.build(cfg)
    runner = MVPRunner.from_cfg(cfg)
    if followed:
        runner.logger.info(followed)
    runner.logger.info(f'Logs and checkpoints go to {runner.work_dir}')
    if wanted and not found:
        runner.logger.warning(
            f'There is no checkpoint to resume in {runner.work_dir}: training starts at the beginning'
        )
    return runner


def resume_last(cfg: Config) -> bool:
    """Go on from the last checkpoint of the work dir; without one start as the config says (``--resume``).

    ``load_from``, what a run begins from, counts in its first start only. Returns whether there is one.
    """
    found = saved_checkpoints(cfg.work_dir)
    if found:
        cfg.load_from = None
    cfg.resume = bool(found) or not cfg.get('load_from')  # MMEngine would go on from load_from
    return bool(found)


def follow_num_classes(cfg: Config) -> None:
    """Give batch mixing the classes of ``model.head``; leave out a top-k that every answer would reach."""
    classes = (cfg.model.get('head') or {}).get('num_classes')
    if classes is None:
        return
    if 'num_classes' in (cfg.model.get('data_preprocessor') or {}):
        cfg.model.data_preprocessor.num_classes = classes
    for key in ('val_evaluator', 'test_evaluator'):
        metrics = cfg.get(key) or []
        for metric in [metrics] if isinstance(metrics, dict) else metrics:
            topk = metric.get('topk', 1)
            if metric['type'] == 'Accuracy' and not isinstance(topk, int):
                metric['topk'] = [k for k in topk if k == 1 or k < classes]
