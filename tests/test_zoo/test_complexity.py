"""Parameters and multiply-adds of every config's row."""

import logging
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from needs_mmdet import as_parameters

from mvp_mm.zoo.complexity import complexity
from mvp_mm.zoo.entries import rows_of

ROOT = Path(__file__).parents[2]
ROWS = {
    row['Config']: row
    for path in sorted((ROOT / 'configs').glob('*/metafile.yml'))
    for row in rows_of(path.read_text(), str(path))
}


@pytest.mark.slow
@pytest.mark.parametrize('config', as_parameters(sorted(ROWS)))
def test_numbers(config):
    """What a row says is what the built network and the config say."""
    about = ROWS[config]['Metadata']
    cfg = Config.fromfile(ROOT / config)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    found = complexity(cfg)
    assert about['Parameters'] == found.parameters, f'Parameters: {found.parameters}'
    assert about['FLOPs'] == found.flops, f'FLOPs: {found.flops}'
    assert about['Batch Size'] == cfg.auto_scale_lr.base_batch_size
    if 'max_epochs' in cfg.train_cfg:
        assert about['Epochs'] == cfg.train_cfg.max_epochs
    else:
        assert about['Iterations'] == cfg.train_cfg.max_iters


def test_known_networks():
    """mmpretrain's own row of a fine-tuned BEiT-B, made by another counter, which counts norms too."""
    found = complexity(Config.fromfile(ROOT / 'configs/finetune/vitb16_in1k.py'))
    assert found.parameters == 86530984
    assert found.flops == pytest.approx(17581219584, rel=2e-3) and found.flops < 17581219584
