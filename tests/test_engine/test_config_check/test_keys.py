"""Keys of a config that nothing reads are refused, all others are taken."""

import ast
import copy
import functools
import re
from pathlib import Path

import mmengine
import mmpretrain
import mmseg
import pytest
from mmengine.config import Config
from needs_mmdet import WITH_MMDET, as_parameters

import mvp_mm
from mvp_mm.engine import apply_options, argument_parser, load_config
from mvp_mm.engine.config_check import TOP_LEVEL, unread_keys

ROOT = Path(__file__).parents[3]
PRETRAIN = 'mvp/vittiny_debug.py'
CLASSIFY = 'finetune/vittiny_debug.py'
PROBE = 'linear_probe/vittiny_debug.py'
SEGMENT = 'upernet/vittiny_camvid.py'
SHARDED = 'mvp/vith16_in1k_fsdp.py'
SHIPPED = sorted(
    str(path.relative_to(ROOT / 'configs'))
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)


@pytest.mark.parametrize('config', as_parameters(SHIPPED))
def test_all_keys_of_shipped_configs_are_read(config, capsys, load):
    """And what they hold is sound."""
    load(config)
    assert 'WARNING' not in capsys.readouterr().err


@pytest.mark.parametrize(
    'option,taken',
    [
        # dicts with a type
        ('model.bakbone.init_cfg.checkpoint=F', 'MVP takes .*did you mean backbone'),
        ('model.target_generator.pretrain=F', 'did you mean pretrained'),
        ('model.data_preprocessor.means=1', 'did you mean mean'),
        ('model.backbone.norm_cfg.epsilon=1', 'LayerNorm takes'),
        ('train_dataloader.dataset.pipeline.1.grid=8', 'BlockwiseMask takes'),
        ('test_dataloader.dataset.pipeline.1.sizes=1', 'torchvision/Resize takes .*did you mean size'),
        ('train_dataloader.sampler.shufle=1', 'EpochSampler takes seed, shuffle, total_batch; did you mean'),
        ('train_dataloader.collate_fn.pad=1', 'default_collate takes no keys'),
        ('optim_wrapper.optimizer.learning_rate=1', 'AdamW takes amsgrad, betas'),
        ('param_scheduler.1.eta_minimum=1', 'CosineAnnealingLR takes T_max, .*convert_to_iter_based'),
        ('default_hooks.logger.every=1', 'LoggerHook takes'),
        ('default_hooks.checkpoint.intervall=1', 'did you mean interval'),
        ('custom_hooks.1.share=1', 'UnreadableImagesHook takes max_share, priority'),
        ('visualizer.vis_backends.0.folder=1', 'LocalVisBackend takes'),
        ('test_evaluator.k=1', 'TargetCosine takes'),
        # those of which the runner knows the type
        ('train_cfg.max_epoch=1', 'ExactEpochLoop takes by_epoch, .*did you mean max_epochs'),
        ('val_cfg.fp=1', 'ValLoop takes fp16'),
        ('log_processor.window=1', 'did you mean window_size'),
        ('model_wrapper_cfg.find_unused_parameter=1', 'MMDistributedDataParallel takes'),
        # those without one
        ('optim_wrapper.clip_grad.maxnorm=1', 'error_if_nonfinite, .*did you mean max_norm'),
        ('optim_wrapper.paramwise_cfg.custom_keys.cls_token.decay_mult=0', 'takes layer_decay_rate$'),
        ('model.backbone.arch.num_layer=1', "MVPViT's arch takes embed_dims, .*did you mean num_layers"),
        ('train_dataloader.batchsize=1', 'did you mean batch_size'),
        ('env_cfg.cudnn=1', 'env_cfg takes cudnn_benchmark, dist_cfg, mp_cfg, resource_limit'),
        ('env_cfg.mp_cfg.start=1', 'mp_cfg takes mp_start_method, opencv_num_threads'),
        ('env_cfg.dist_cfg.time_out=1', 'did you mean timeout'),
        ('randomness.sed=1', 'randomness takes deterministic, diff_rank_seed, seed; did you mean seed'),
        ('auto_scale_lr.base_batch=1', 'did you mean base_batch_size'),
        ('compile.modes=1', 'torch.compile takes'),
        ('default_hooks.chekpoint.interval=1', 'default_hooks takes checkpoint, .*did you mean checkpoint'),
        ('load_from.file=1', 'load_from takes no keys'),
    ],
)
def test_what_nothing_reads_is_refused(option, taken, refusal):
    told = refusal(PRETRAIN, option)
    assert told.startswith(f'--cfg-options {option.split("=")[0]}: nothing reads `')
    assert re.search(taken, told), told


@pytest.mark.parametrize(
    'config,option,taken',
    [
        (CLASSIFY, 'model.backbone.init_cfg.checkpont=F', 'PretrainedInit takes .*did you mean checkpoint'),
        (CLASSIFY, 'model.head.init_cfg.deviation=1', 'TruncNormalInit takes'),
        (CLASSIFY, 'model.train_cfg.augment=1', "ImageClassifier's train_cfg takes augments, probs"),
        (CLASSIFY, 'model.train_cfg.augments.0.alph=1', 'Mixup takes alpha'),
        (CLASSIFY, 'optim_wrapper.paramwise_cfg.decay=1', 'takes layer_decay_rate'),
        (PROBE, 'optim_wrapper.paramwise_cfg.layer_decay_rate=1', 'takes no keys'),
        (
            SEGMENT,
            'model.test_cfg.strides=1',
            'takes crop_size, mode, stride, window_batch; did you mean str',
        ),
        (SEGMENT, 'model.train_cfg.sampler=1', 'takes no keys'),
        (SEGMENT, 'model.data_preprocessor.test_cfg.pad=1', 'takes size, size_divisor'),
        (SEGMENT, 'model.decode_head.loss_decode.weight=1', 'CrossEntropyLoss takes'),
        (SEGMENT, 'val_evaluator.iou_metric=1', 'did you mean iou_metrics'),
        (SEGMENT, 'tta_pipeline.1.transforms.0.0.scales=1', 'Resize takes'),
        (SEGMENT, 'tta_model.flip=1', 'SegTTAModel takes'),
        (SHARDED, 'strategy.model_wrapper.wrap=1', 'MMFullyShardedDataParallel takes'),
    ],
)
def test_in_other_configs(config, option, taken, refusal):
    assert re.search(f'nothing reads .*{taken}', refusal(config, option))


@pytest.mark.parametrize(
    'config,option',
    [
        (PRETRAIN, 'bf16_gradients=True'),
        (PRETRAIN, 'activation_checkpointing=[backbone]'),
        (PRETRAIN, 'efficient_conv_bn_eval=[backbone]'),
        (PRETRAIN, 'sync_bn=torch'),
        (PRETRAIN, 'compile=True'),
        (PRETRAIN, 'compile.mode=default'),
        (PRETRAIN, 'val_dataloader.batch_size=3'),
        (PRETRAIN, 'custom_hooks.0.priority=LOW'),
        (PRETRAIN, 'default_hooks.checkpoint.retry_interval=3'),
        (PRETRAIN, 'default_hooks.checkpoint.meta=None'),
        (PRETRAIN, 'optim_wrapper.clip_grad=None'),
        (PRETRAIN, 'optim_wrapper.clip_grad.norm_type=1'),
        (PRETRAIN, 'optim_wrapper.clip_grad.max_norm=inf'),
        (PRETRAIN, 'randomness.seed=None'),
        (PRETRAIN, 'env_cfg.dist_cfg.timeout=60'),
        (PRETRAIN, 'train_dataloader.dataset.pipeline.0.reference=True'),
        (CLASSIFY, 'model.backbone.init_cfg=None'),
        (CLASSIFY, 'model.backbone.arch=base'),
        (CLASSIFY, 'val_evaluator.topk=1'),
        (CLASSIFY, 'train_dataloader.dataset.pipeline.3.hparams.pad_val=0'),
        (SEGMENT, 'train_dataloader.dataset.metainfo.classes=(a,b)'),
        (SEGMENT, 'train_dataloader.dataset.data_prefix.img_path=x'),
        (SEGMENT, 'model.decode_head.norm_cfg.requires_grad=False'),
        (SEGMENT, 'model.backbone.init_cfg.optional=False'),
        (SHARDED, 'strategy.state_dict_cfg=local'),
    ],
)
def test_what_is_read_is_taken(config, option, load):
    load(config, option)


def test_the_whole_constructor_decides_with_its_custom_keys():
    keys = {'type': 'OptimWrapper', 'constructor': 'DefaultOptimWrapperConstructor', '_delete_': True}
    options = {f'optim_wrapper.{key}': value for key, value in keys.items()}
    options['optim_wrapper.optimizer'] = dict(type='SGD', lr=0.1)
    options['optim_wrapper.paramwise_cfg.norm_decay_mult'] = 0.0
    path = str(ROOT / 'configs' / PRETRAIN)
    load_config(path, cfg_options={**options, 'optim_wrapper.paramwise_cfg.custom_keys.a.lr_mult': 0.1})
    with pytest.raises(
        ValueError, match='DefaultOptimWrapperConstructor takes .*did you mean norm_decay_mult'
    ):
        load_config(path, cfg_options={**options, 'optim_wrapper.paramwise_cfg.norm_decay': 0.1})


def test_loaders_of_evaluators():
    loader = dict(batchsize=1, dataset=dict(type='ImageNet'))
    evaluators = [dict(type='TargetCosine', interval=2, dataloader=loader)]
    unread, nones = unread_keys(Config(dict(default_scope='mmpretrain', evaluators=evaluators)))
    assert [key.path for key in unread] == ['evaluators.0.dataloader.batchsize'] and not nones
    assert str(unread[0]).endswith('did you mean batch_size?')


def test_a_config_of_ones_own_is_warned_about(tmp_path, capsys):
    """It runs all the same: its keys may be meant for another version."""
    own = tmp_path / 'own.py'
    own.write_text(
        f'_base_ = {str(ROOT / "configs" / PRETRAIN)!r}\n'
        'optim_wrapper = dict(clip_grad=dict(maxnorm=1))\nlog_levle = "INFO"\nfolder = "x"\n'
    )
    load_config(str(own))
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f'WARNING: keys of {own} that nothing reads: optim_wrapper.clip_grad.maxnorm (')
    assert line.endswith('log_levle (did you mean log_level?)')


# What a whole config is called where it is read, and what of its attributes is no key.
NO_KEYS = {
    'get',
    'pop',
    'filename',
    'pretty_text',
    'dump',
    'keys',
    'items',
    'copy',
    'to_dict',
    'merge_from_dict',
}


def keys_read(path):
    """Keys that a source file takes out of a whole config."""

    def is_config(node, names):
        if isinstance(node, ast.Attribute):
            return (
                node.attr == 'cfg'
                and isinstance(node.value, ast.Name)
                and node.value.id in ('self', 'runner')
            )
        return isinstance(node, ast.Name) and node.id in names

    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        names = {
            argument.arg
            for argument in function.args.args
            if argument.arg == 'cfg'
            and (
                function.name == 'from_cfg'
                or 'Config' in ast.unparse(argument.annotation or ast.Constant(''))
            )
        }
        for node in ast.walk(function):
            key = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ('get', 'pop') and is_config(node.func.value, names):
                    key = node.args[0]
            elif isinstance(node, ast.Subscript) and is_config(node.value, names):
                key = node.slice
            elif isinstance(node, ast.Compare) and any(is_config(one, names) for one in node.comparators):
                key = node.left
            elif isinstance(node, ast.Attribute) and is_config(node.value, names):
                key = None if node.attr in NO_KEYS or node.attr[0] == '_' else ast.Constant(node.attr)
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.add(key.value)
    return found


def test_top_level_keys_are_those_of_the_sources():
    """A new version that reads another key fails here, not at a user's."""
    folders = [Path(mmengine.__file__).parent / name for name in ('runner', 'hooks', '_strategy')]
    folders += [Path(package.__file__).parent / 'engine' for package in (mmpretrain, mmseg)]
    folders += [Path(package.__file__).parent / 'apis' for package in (mmpretrain, mmseg)]
    folders += [Path(mvp_mm.__file__).parent]
    read = set()
    for folder in folders:
        for path in folder.rglob('*.py'):
            if '.mim' not in path.parts:
                read |= keys_read(path)
    assert read == set(TOP_LEVEL)


@functools.cache
def documented_options():
    """Options that the pages and the configs' docstrings name, with their place."""
    pages = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'), *(ROOT / 'configs').rglob('*.py')]
    pages += [
        *(ROOT / 'tools').rglob('*.py'),
        *(ROOT / 'tools').glob('*.sh'),
        *(ROOT / 'configs').rglob('*.md'),
    ]
    top = '|'.join(sorted(TOP_LEVEL, key=len, reverse=True))
    found = {}
    for page in pages:
        if page.name == 'bad_inputs.md':
            continue
        text = page.read_text()
        for path, value in re.findall(
            rf'(?<![\w./])((?:{top})(?:\.\w+)*)=(\[[^\]]*\]|[^\s`\'",;)\]]+)', text
        ):
            if '.' in path or f'--cfg-options {path}=' in text or f'`{path}={value}`' in text:
                found.setdefault((path, value.rstrip('.:')), page.name)
    return found


@pytest.mark.slow
def test_options_that_the_pages_name_are_read():
    """By one of the shipped configs: the pages do not always say by which."""
    names = [PRETRAIN, CLASSIFY, SEGMENT, PROBE, SHARDED, *SHIPPED]
    names = [name for name in names if WITH_MMDET or not name.startswith('detection/')]
    configs = [Config.fromfile(ROOT / 'configs' / name) for name in names]
    options = documented_options()
    assert ('bf16_gradients', 'True') in options and len(options) > 30
    for (path, value), page in options.items():
        refused = []
        for cfg in configs:
            try:
                apply_options(copy.deepcopy(cfg), {path: 'text' if value.isupper() else _read(value)})
                break
            except ValueError as error:
                refused.append(str(error))
        else:
            pytest.fail(f'{path}={value} of {page}: {refused[0]}')


def _read(value):
    arguments = argument_parser('').parse_args(['c.py', '--cfg-options', f'x={value}'])
    return arguments.cfg_options['x']
