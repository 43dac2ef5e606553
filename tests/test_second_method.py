"""A second method, its data and its evaluator, all defined outside of the package."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from mvp_mm.engine import build_runner, load_config

# What somebody would write: one file, one registration a class.
TWO_TOWERS = '''
import io

import numpy as np
import torch
from mmengine.model import BaseModel
from mmpretrain.registry import DATASETS, EVALUATORS, MODELS
from PIL import Image
from torch import nn
from torch.nn import functional as F

from mvp_mm.datasets import SampleSource
from mvp_mm.evaluation import Evaluator
from mvp_mm.models import MVPViT

COLOURS = dict(red=(220, 30, 30), green=(30, 200, 30), blue=(30, 30, 220), white=(240, 240, 240))
WORDS = {word: number for number, word in enumerate(['a', 'square', *COLOURS])}


@DATASETS.register_module()
class CaptionedSquares(SampleSource):
    """Squares of one colour as JPEG bytes, with a caption."""

    def __init__(self, count, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def __len__(self):
        return self.count

    def sample(self, index):
        if index == 1:  # bytes that cannot be read
            return 'square-1', b'no image', {}
        word = list(COLOURS)[index % len(COLOURS)]
        file = io.BytesIO()
        Image.new('RGB', (48, 40), COLOURS[word]).save(file, 'JPEG')
        tokens = np.array([WORDS[part] for part in f'a {word} square'.split()])
        return f'square-{index}', file.getvalue(), dict(tokens=tokens, gt_label=index % len(COLOURS))


@MODELS.register_module()
class TwoTowers(BaseModel):
    """Images and captions meet by a contrastive loss."""

    task = 'contrastive'
    batch_coupled = True

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor or dict(type='MVPDataPreprocessor'))
        arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
        self.backbone = MVPViT(arch, img_size=32, out_type='raw', final_norm=True)
        self.words = nn.Embedding(len(WORDS), 16)

    def forward(self, inputs, tokens, mask=None, data_samples=None, mode='tensor', **fields):
        images = F.normalize(self.backbone.encode_image(inputs)[0], dim=1)
        texts = F.normalize(self.words(tokens).mean(1), dim=1)
        if mode != 'loss':
            return images, texts
        logits = 10 * images @ texts.T
        return dict(loss=F.cross_entropy(logits, torch.arange(len(logits), device=logits.device)))


@EVALUATORS.register_module()
class Retrieval(Evaluator):
    """How often an image's nearest caption has its colour."""

    default_prefix = 'retrieval'

    def evaluate(self, model):
        right = total = 0
        for batch in self.batches(model, self.dataloader):
            images, texts = model(**batch)
            nearest = (images @ texts.T).argmax(1)
            right += (batch['gt_label'][nearest] == batch['gt_label']).sum().item()
            total += len(images)
        return dict(top1=100 * right / total, images=total)
'''
CONFIG = """
_base_ = 'mvp_mm::_base_/default_runtime.py'
custom_imports = dict(imports=['mvp_mm', 'two_towers'], allow_failed_imports=False)
model = dict(type='TwoTowers')
pipeline = [
    dict(type='FastCrop', size=32),
    dict(type='PackMaskedInputs', meta_keys=('sample_idx',), fields=('tokens', 'gt_label')),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='EpochSampler'),
    dataset=dict(type='CaptionedSquares', count=8, pipeline=pipeline),
)
evaluators = [
    dict(
        type='Retrieval',
        dataloader=dict(
            batch_size=4,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='CaptionedSquares', count=4, pipeline=pipeline, fixed_draws=True),
        ),
    )
]
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-2))
train_cfg = dict(by_epoch=True, max_epochs=1)
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=1))
custom_hooks = [dict(type='UnreadableImagesHook', max_share=0.5)]
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The folder of a project of its own, on the path."""
    (tmp_path / 'two_towers.py').write_text(TWO_TOWERS)
    (tmp_path / 'two_towers_debug.py').write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop('two_towers', None)


def test_two_steps(outside):
    cfg = load_config(str(outside / 'two_towers_debug.py'), str(outside / 'run'))
    runner = build_runner(cfg)
    runner.train()
    log = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line['loss'] > 0 for line in lines if 'loss' in line] == [True, True]
    (found,) = [line for line in lines if 'retrieval/top1' in line]
    assert found['retrieval/images'] == 4 and 0 <= found['retrieval/top1'] <= 100
    # the loss couples a batch's samples: 8 images are not made up of two times 4
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert runner.optim_wrapper._accumulative_counts == 1
    assert 'couples' in text and '4/8' in text
    # bytes that cannot be read are replaced, and listed by their key
    assert 'square-1' in (outside / 'run/bad_images.txt').read_text()
