"""Values with which nothing sensible runs are refused."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mvp_mm.engine import load_config
from mvp_mm.engine.config_check import require_device_for, require_sound_values

ROOT = Path(__file__).parents[3]
PRETRAIN = 'mvp/vittiny_debug.py'
CLASSIFY = 'finetune/vittiny_debug.py'
SEGMENT = 'upernet/vittiny_camvid.py'


@pytest.mark.parametrize(
    'config,option',
    [
        *(
            (PRETRAIN, f'{key}={value}')
            for key, values in {
                'optim_wrapper.optimizer.lr': ('-1', 'nan', 'inf', '(1,2)'),
                'optim_wrapper.optimizer.weight_decay': ('-1', 'nan'),
                'optim_wrapper.optimizer.betas': ('(0.9,1)', '(-0.1,0.9)', '0.9'),
                'optim_wrapper.clip_grad.max_norm': ('-1', '0', 'nan'),
                'optim_wrapper.accumulative_counts': ('0', '1.5'),
                'train_dataloader.batch_size': ('0', '1.5', 'None'),
                'train_dataloader.num_workers': ('-1',),
                'train_cfg.max_epochs': ('0', '1.5'),
                'param_scheduler.1.end': ('1',),
                'param_scheduler.0.start_factor': ('0', '2'),
                'randomness.seed': ('-1', '0.5'),
                'default_hooks.logger.interval': ('0',),
                'model.backbone.drop_path_rate': ('1', '-0.1', 'nan'),
                'model.backbone.img_size': ('0', '60', '96'),
                'model.data_preprocessor.std': ('(0,1,1)', '5'),
                'train_dataloader.dataset.pipeline.0.size': ('0', '96'),
                'train_dataloader.dataset.pipeline.0.flip': ('2',),
                'log_level': ('LOUD', 'info'),
                'default_scope': ('mmpretrian',),
                'env_cfg.mp_cfg.mp_start_method': ('forked',),
            }.items()
            for value in values
        ),
        (CLASSIFY, 'model.head.num_classes=0'),
        (CLASSIFY, 'model.head.loss.label_smooth_val=1.5'),
        (CLASSIFY, 'optim_wrapper.paramwise_cfg.layer_decay_rate=0'),
        (SEGMENT, 'model.test_cfg.mode=slid'),
        (SEGMENT, 'model.test_cfg.stride=(193,128)'),
        (SEGMENT, 'model.decode_head.loss_decode.loss_weight=-1'),
        (SEGMENT, 'train_dataloader.dataset.pipeline.1.reduce_zero_label=True'),
    ],
)
def test_values_with_which_nothing_sensible_runs(config, option, refusal):
    told = refusal(config, option)
    assert re.search('expected|set both alike|no multiple of|no package of|a stride of no more', told), told
    assert option.split('=')[0].split('.')[-1] in told


@pytest.mark.parametrize('backend', ['Wandb', 'MLflow'])
def test_a_backend_whose_package_is_missing(backend, monkeypatch, refusal):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None if name == backend.lower() else 1)
    told = refusal(PRETRAIN, f'visualizer.vis_backends.1.type={backend}VisBackend')
    assert f'pip install {backend.lower()}' in told


@pytest.mark.parametrize('key,value', [('interval', 0), ('batch_size', 0), ('num_workers', -1)])
def test_values_of_evaluators(key, value):
    entry = dict(interval=1, dataloader=dict(batch_size=4, num_workers=0))
    require_sound_values(Config(dict(evaluators=[entry])))
    (entry if key in entry else entry['dataloader'])[key] = value
    with pytest.raises(ValueError, match=f'evaluators.0.*{key}={value}: expected'):
        require_sound_values(Config(dict(evaluators=[entry])))


def test_mixed_precision_by_mmengine_needs_a_gpu(monkeypatch):
    cfg = Config(dict(default_scope='mmpretrain', optim_wrapper=dict(type='AmpOptimWrapper')))
    monkeypatch.setattr('mvp_mm.engine.config_check.values.get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match='needs a GPU.*MVPOptimWrapper.*--amp'):
        require_device_for(cfg)
    monkeypatch.setattr('mvp_mm.engine.config_check.values.get_device', lambda: 'cuda')
    require_device_for(cfg)


def test_values_of_a_config_of_ones_own_are_checked(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(
        f'_base_ = {str(ROOT / "configs" / PRETRAIN)!r}\noptim_wrapper = dict(optimizer=dict(lr=-1.0))\n'
    )
    with pytest.raises(ValueError, match='optim_wrapper.optimizer.lr=-1.0: expected a finite number'):
        load_config(str(own))
