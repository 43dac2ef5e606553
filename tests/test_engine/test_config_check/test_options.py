"""Options of a command line are checked for their place and kind."""

import re
from pathlib import Path

import pytest

from mvp_mm.engine import load_config

ROOT = Path(__file__).parents[3]
PRETRAIN = 'mvp/vittiny_debug.py'
CLASSIFY = 'finetune/vittiny_debug.py'


def test_a_path_through_none_and_dicts_given_in_python():
    path = str(ROOT / 'configs/upernet/vittiny_scenes.py')
    cfg = load_config(path, cfg_options={'optim_wrapper.clip_grad': {'max_norm': 2}})
    assert cfg.optim_wrapper.clip_grad.max_norm == 2
    with pytest.raises(ValueError, match='nothing reads `maxnorm`'):
        load_config(path, cfg_options={'optim_wrapper.clip_grad': {'maxnorm': 2}})
    other = str(ROOT / 'configs' / CLASSIFY)
    options = {'model.backbone.init_cfg': None, 'model.backbone.init_cfg.checkpoint': 'F'}
    assert load_config(other, cfg_options=options).model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='F'
    )


@pytest.mark.parametrize(
    'option,told',
    [
        ('param_scheduler.5.end=3', 'param_scheduler is a list of 2, and 5 .*: give a number from 0 to 1'),
        ('param_scheduler.-1.end=3', 'and -1 is none of its places'),
        ('train_dataloader.dataset.pipeline.first.size=3', 'is a list of 3, and first is none'),
        ('optim_wrapper.optimizer.lr.max=1', 'lr is 0.0015, which holds no keys'),
        ('optim_wrapper.optimizer.betas.0=1', r'set as a whole, such as .*betas="\(0.9, 0.999\)"'),
        ('optim_wrapper.optimizer.lr=fast', 'lr=fast: expected a number, such as 0.0015'),
        ('optim_wrapper.optimizer.lr=None', 'lr=None: expected a value, not None'),
        ('optim_wrapper.optimizer=AdamW', 'expected a dict, as in the config; set one key with'),
        ('optim_wrapper.clip_grad=3', 'expected a dict'),
        ('auto_scale_lr=True', 'expected a dict'),
        ('custom_hooks=ThroughputHook', 'expected a list of dicts'),
        ('custom_hooks=[ThroughputHook]', 'expected a list of dicts'),
        ('train_dataloader.drop_last=perhaps', 'expected True or False'),
        ('model.neck=None', 'expected a value, not None'),
        ('model=None', 'nothing to run'),
        ('env_cfg=None', 'env_cfg=None: expected a dict'),
        ('randomness=None', 'expected a dict, not None'),
        ('train_dataloader.dataset=None', 'train_dataloader.dataset=None: expected a dict'),
        ('launcher=pytorch', 'give it as --launcher'),
    ],
)
def test_places_and_kinds(option, told, refusal):
    assert re.search(told, refusal(PRETRAIN, option))
