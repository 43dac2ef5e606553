"""What users get wrong, as data: command lines on a folder that is made here, each with what it must answer.

Run as a script it writes the table of docs/bad_inputs.md:

    python tests/test_engine/bad_inputs.py docs/bad_inputs.md
"""

import contextlib
import io
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import mvp_mm

ROOT = Path(__file__).parents[2]
PRETRAIN = 'configs/mvp/vittiny_debug.py'
CLASSIFY = 'configs/finetune/vittiny_debug.py'
SEGMENT = 'configs/upernet/vittiny_camvid.py'
QUICK = ('train_dataloader.num_workers=0', 'train_cfg.max_epochs=1')
INIT = 'model__backbone__init_cfg__checkpoint'
LISTED = 'train_dataloader__dataset__ann_file'
SHARDS = dict(train_dataloader__dataset__type='ImageTextShards')
SHARD_SAMPLER = dict(train_dataloader__sampler__type='ShardSampler')
LIST = dict(train_dataloader__dataset__type='ImageTextList')
SCRATCH = {'model__backbone__init_cfg': 'None'}
TRAIN_SEGMENT = (
    f'train.py {SEGMENT} --work-dir run --cfg-options train_dataloader.dataset.data_root={{}} '
    'val_dataloader.dataset.data_root=camvid train_dataloader.num_workers=0 val_dataloader.num_workers=0 '
    'train_dataloader.persistent_workers=False val_dataloader.persistent_workers=False '
    'model.backbone.init_cfg=None'
)
SEGMENT_ONE = f'segment.py {{}} --config {SEGMENT} --checkpoint segmentor.pth --out o'
BY_NAMES = 'segment.py camvid/images/val/0.jpg --out o --prompts {}'
SPEAK = 'test.py configs/zero_shot/scenes.py trained.pth --work-dir run --cfg-options {}'
EIGHT = '[{},square,triangle,star,cross,ring,crescent,arrow]'
ATTENTION = f'visualize_attention.py {{}} --model {PRETRAIN} trained.pth'
KNN = (
    f'knn.py {CLASSIFY} trained.pth --cfg-options train_dataloader.dataset.data_root=images '
    'val_dataloader.dataset.data_root=images'
)


@dataclass(frozen=True)
class BadInput:
    """A command line that cannot work.

    Args:
        kind: What is wrong: 'command line', 'config', 'checkpoint' or 'file'.
        command: The tool and its arguments, as typed in the folder that :func:`make_folder` makes.
        says: Words of the answer, as a regular expression.
        status: Exit status: 2 where the arguments are none that the tool knows, otherwise 1.
    """

    kind: str
    command: str
    says: str
    status: int = 1


def train(config=PRETRAIN, data='images', work_dir='run', **options):
    """A training of a moment, of which everything works but what ``options`` say."""
    given = [f'train_dataloader.dataset.data_root={data}', *QUICK]
    if config == CLASSIFY:
        given += [f'val_dataloader.dataset.data_root={data}', 'val_dataloader.num_workers=0']
        given += ['model.head.num_classes=2']
    given += [f'{key.replace("__", ".")}={value}' for key, value in options.items()]
    return ' '.join(['train.py', config, '--work-dir', work_dir, '--cfg-options', *given])


def test(config=PRETRAIN, checkpoint='trained.pth', more='', **options):
    """An evaluation, likewise."""
    given = [f'{key.replace("__", ".")}={value}' for key, value in options.items()]
    root = 'camvid' if config == SEGMENT else 'images'
    given += [f'test_dataloader.dataset.data_root={root}', 'test_dataloader.num_workers=0']
    if config == SEGMENT:
        given += ['test_dataloader.persistent_workers=False']
    if config == CLASSIFY:
        given += ['model.head.num_classes=2']
    more = [more] if more else []
    return ' '.join(['test.py', config, checkpoint, *more, '--work-dir run --cfg-options', *given])


BAD_INPUTS = [
    BadInput('command line', 'train.py', 'the following arguments are required: config', 2),
    BadInput('command line', f'train.py {PRETRAIN} --epochs 3', 'unrecognized arguments: --epochs 3', 2),
    BadInput('command line', f'train.py {PRETRAIN} --launcher torchrun', "invalid choice: 'torchrun'", 2),
    BadInput('command line', f'train.py {PRETRAIN} --cfg-options lr', "takes KEY=VALUE, .*; got 'lr'"),
    BadInput('command line', train() + ' --launcher pytorch', 'started by torchrun, as tools/dist_train.sh'),
    BadInput('command line', train() + ' --launcher slurm', 'started by srun, as tools/slurm_train.sh'),
    BadInput('command line', train() + ' --launcher mpi', 'started by mpirun'),
    BadInput('command line', train(trian_cfg__max_epochs=1), 'did you mean train_cfg'),
    BadInput('command line', train(data_root='images'), 'train_dataloader.dataset.data_root'),
    BadInput('command line', train() + ' --resume gone.pth', 'there is no checkpoint gone.pth'),
    BadInput('command line', train() + ' --resume images', 'images is a folder without '),
    BadInput('command line', train(work_dir='notes.txt/run'), 'Not a directory: .*notes.txt/run'),
    BadInput('command line', train(work_dir='/proc/run'), 'No such file or directory: ./proc/run'),
    BadInput('command line', f'test.py {PRETRAIN}', 'are required: checkpoint', 2),
    BadInput('command line', test(more='--tta'), '--tta needs a config with tta_pipeline'),
    BadInput('command line', test(checkpoint='gone.pth'), 'there is no checkpoint gone.pth'),
    BadInput('command line', test(checkpoint='s3://bucket/a.pth'), 'an http.s. or hf:// address'),
    BadInput('command line', f'knn.py {CLASSIFY} trained.pth --launcher pytorch', 'in one process', 2),
    BadInput('command line', f'knn.py {CLASSIFY} trained.pth --k 0', 'no number of neighbours', 2),
    BadInput('command line', KNN + ' --device tpu', 'there is no device tpu here'),
    BadInput('command line', SEGMENT_ONE.format('gone.jpg'), 'there is no image gone.jpg'),
    BadInput('command line', SEGMENT_ONE.format('a.jpg') + ' --opacity 2', 'expected a number from 0 to 1'),
    BadInput('command line', 'segment.py camvid --out o', 'or --prompts "sky,road,car" with --checkpoint'),
    BadInput('command line', SEGMENT_ONE.format('camvid') + ' --prompts sky', '--config has its own: give'),
    BadInput(
        'command line', BY_NAMES.format('sky'), '--prompts needs --checkpoint FILE or --model NAME, one'
    ),
    BadInput(
        'command line',
        BY_NAMES.format('sky --checkpoint trained.pth --model mvp_vittiny_scenes'),
        '--prompts needs --checkpoint FILE or --model NAME, one of them',
    ),
    BadInput(
        'command line', BY_NAMES.format('sky,,car --checkpoint trained.pth'), 'class 1 has an empty name'
    ),
    BadInput(
        'command line', BY_NAMES.format('sky|car,Sky --checkpoint trained.pth'), "'Sky' names class 0 and"
    ),
    BadInput(
        'command line', BY_NAMES.format('sky --model upernet_vittiny_camvid'), 'no published weights of'
    ),
    BadInput('command line', 'export.py tensorflow trained.pth out.pth', "invalid choice: 'tensorflow'", 2),
    BadInput('command line', 'export.py timm trained.pth out.pth --prompts sky', '--prompts goes with safet'),
    BadInput('command line', 'export.py timm trained.pth o --img-size 0', 'a whole number of 1 or more', 2),
    BadInput('command line', KNN + ' --temperature nan', 'expected a finite number above 0, got nan', 2),
    BadInput('command line', KNN + ' --query-chunk 0', 'a whole number of 1 or more, got 0', 2),
    BadInput('command line', 'plot_curves.py images --dpi 0', 'a whole number of 1 or more, got 0', 2),
    BadInput('command line', ATTENTION.format('a.jpg') + ' --size 0', 'a whole number of 1 or more', 2),
    BadInput('command line', 'export.py timm trained.pth o --img-size 1 2 3', 'takes a side, or height', 2),
    BadInput('command line', 'download.py no_such_model', "no model 'no_such_model': mvp_mm.list_models"),
    BadInput(
        'command line', 'shards.py images', 'give --out DIR to write shards of a folder or list, or --check'
    ),
    BadInput(
        'command line', 'shards.py images --out o --per-shard 0', 'a whole number of 1 or more, got 0', 2
    ),
    BadInput('command line', 'shards.py images --out o --decode', '--decode goes with --check'),
    BadInput(
        'command line', 'shards.py nowhere --out o', 'there is no folder or list nowhere. Give a folder'
    ),
    BadInput('command line', 'shards.py nowhere --check', 'there are no shards nowhere. Expected tar files'),
    BadInput(
        'command line', 'shards.py s4://b/*.tar --check', 's4://b/..tar cannot be read: .*Protocol not known'
    ),
    BadInput('command line', 'check_dataset.py nowhere', 'there is no image folder nowhere'),
    BadInput('command line', 'check_dataset.py images --workers 0', 'is no number of processes', 2),
    BadInput('command line', 'check_dataset.py images --out no/bad.txt', 'there is no folder no', 2),
    BadInput('command line', 'check_imagenet.py images/train', 'has neither train nor val: .*found a, b'),
    BadInput('command line', 'publish.py images --zoo zoo', 'there is no checkpoint in images'),
    BadInput('command line', 'plot_curves.py images', 'there is no log .* in images'),
    BadInput('command line', ATTENTION.format('gone.jpg'), 'gone.jpg'),
    BadInput('command line', ATTENTION.format('a.jpg') + ' --device tpu', 'there is no device tpu here'),
    BadInput('command line', 'render_images.py --out rendered --count 0', 'has one scene or more'),
    BadInput('command line', 'render_images.py --out notes.txt --count 1', 'File exists: .notes.txt'),
    BadInput('command line', 'browse_scenes.py --size 0', 'needs 8 pixels a side or more'),
    BadInput(
        'config',
        SPEAK.format('evaluators.0.classes=[circle,ring]'),
        'classes has 2 entries and the dataset 8',
    ),
    BadInput(
        'config', SPEAK.format('evaluators.0.classes=imagenette'), "no class names of 'imagenette': expected"
    ),
    BadInput(
        'config', SPEAK.format('evaluators.2.classes=ade20k'), 'classes has 150 entries and the dataset 9'
    ),
    BadInput(
        'config',
        SPEAK.format(f'evaluators.0.classes={EIGHT.format("ring")}'),
        "'ring' names class 0 and class 5: name it once",
    ),
    BadInput(
        'config',
        SPEAK.format(f'evaluators.0.classes={EIGHT.format("dog")}'),
        "'dog' is not in the vocabulary",
    ),
    BadInput(
        'config', SPEAK.format('evaluators.0.templates=opneai'), "templates 'opneai' are unknown: expected"
    ),
    BadInput('config', SPEAK.format('evaluators.0.of=pupil'), "of='pupil'.*'student'.*'teacher'.*'both'"),
    BadInput('config', SPEAK.format('evaluators.2.background=9'), 'background=9 is none of the 9 classes'),
    BadInput(
        'config',
        SPEAK.format('model.target_generator.space=hidden model.neck.out_channels=128'),
        'cannot speak: its tokens are before the projection',
    ),
    BadInput('config', 'train.py gone.py', 'there is no config file gone.py'),
    BadInput('config', 'train.py configs/mvp', 'there is no config file configs/mvp'),
    BadInput('config', 'train.py notes.txt', 'cannot be read as a config: .*Only py/yml/yaml/json'),
    BadInput('config', 'train.py syntax.py', 'cannot be read as a config: SyntaxError'),
    BadInput('config', 'train.py undefined.py', "NameError: name 'name_of_model' is not defined"),
    BadInput('config', 'train.py no_base.py', 'No such file or directory: .*gone.py'),
    BadInput('config', 'train.py no_package.py', 'does not support to load mvpmm config'),
    BadInput('config', 'train.py empty.py', 'it has no `model`'),
    BadInput('config', 'train.py list.json', 'list.json cannot be read as a config'),
    BadInput('config', 'train.py bytes.py', 'bytes.py cannot be read as a config: UnicodeDecodeError'),
    BadInput('config', 'train.py no_loader.py', 'no config to train: it has no train_dataloader'),
    BadInput(
        'config', train(train_dataloader__batch_size=0), 'batch_size=0: expected a whole number of 1 or more'
    ),
    BadInput('config', train(train_dataloader__batch_size=100), '8 images do not fill one iteration'),
    BadInput('config', train(train_dataloader__batch_size='many'), 'expected a number, such as 8'),
    BadInput('config', train(train_cfg__max_epochs='many'), 'expected a number, such as'),
    BadInput(
        'config', train(train_cfg__max_epochs=-1), 'max_epochs=-1: expected a whole number of 1 or more'
    ),
    BadInput('config', train(optim_wrapper__optimizer__type='AdamWW'), 'AdamWW is not in the .*optimizer'),
    BadInput('config', train(optim_wrapper__optimizer__lr='fast'), 'expected a number, such as 0.0015'),
    BadInput(
        'config', train(optim_wrapper__optimizer__lr=-1), 'lr=-1: expected a finite number of 0 or more'
    ),
    BadInput('config', train(optim_wrapper__precision='fp8'), "is none of 'auto', 'bfloat16', 'float32'"),
    BadInput('config', train(model__type='MVPP'), 'MVPP is not in the mmpretrain::model registry'),
    BadInput('config', train(model__backbone__arch='giant'), "arch='giant' is not one of"),
    BadInput('config', train(model__backbone__depth=3), 'nothing reads .depth.: MVPViT takes'),
    BadInput('config', train(model__backbone__patch_size=7), 'img_size=64 is no multiple of patch_size=7'),
    BadInput('config', train(model__neck__out_channels=63), 'set model.neck.out_channels=64'),
    BadInput('config', train(model__neck__in_channels=63), 'set model.neck.in_channels=96'),
    BadInput('config', train(model__target_generator__model_name='ViT-X'), "knows no model 'ViT-X'"),
    BadInput('config', train(model__target_generator__pretrained='gone.pt'), 'nor an existing weight file'),
    BadInput('config', train(model__target_generator__model_name='local-dir:gone'), 'is no folder gone'),
    BadInput('config', train(model__target_generator__model_name='images'), 'no open_clip_config.json'),
    BadInput('config', train(model__target_generator__model_name='hf-hub:clip'), 'hf-hub:owner/name'),
    BadInput(
        'config',
        train(model__target_generator__model_name='RN50'),
        'RN50 pools its patch tokens by attention, .*: use space=',
    ),
    BadInput('config', train(model__target_generator__teacher_std='1,0,1'), 'three numbers above 0'),
    BadInput('config', train(model__target_generator__teacher_mean='123,116,103'), 'divide them by 255'),
    BadInput(
        'config',
        train(default_hooks__checkpoint__retry_interval=0),
        'retry_interval=0: expected a whole number',
    ),
    BadInput('config', train(default_hooks__checkpoint__interval='often'), 'expected a number, such as 10'),
    BadInput('config', train(custom_hooks__1__max_share=2), 'max_share=2: expected a number from 0 to 1'),
    BadInput('config', train(randomness__seed='lucky'), 'expected a number, such as 0'),
    BadInput('config', train(train_dataloader__dataset__type='Photos'), 'Photos is not in the .*dataset'),
    BadInput('config', train(train_dataloader__sampler__type='Random'), 'Random is not in the .*sampler'),
    # Keys that nothing reads, and values with which nothing sensible runs.
    BadInput(
        'config', train(CLASSIFY, model__backbone__init_cfg__checkpont='trained.pth'), 'mean checkpoint'
    ),
    BadInput('config', train(optim_wrapper__clip_grad__maxnorm=1), 'did you mean max_norm'),
    BadInput('config', train(default_hooks__checkpoint__intervall=1), 'CheckpointHook takes .*interval'),
    BadInput('config', train(default_hooks__chekpoint__interval=1), 'did you mean checkpoint'),
    BadInput('config', test(SEGMENT, 'segmentor.pth', model__test_cfg__strides=1), 'did you mean stride'),
    BadInput('config', train(optim_wrapper__paramwise_cfg__layer_decay=1), 'did you mean layer_decay_rate'),
    BadInput('config', train(train_dataloader__dataset__pipeline__0__sizes=64), 'FastCrop takes'),
    BadInput('config', train(env_cfg__mp_cfg__start_method='fork'), 'did you mean mp_start_method'),
    BadInput('config', train(param_scheduler__5__end=3), 'is a list of 2, .*give a number from 0 to 1'),
    BadInput('config', train(**{'custom_hooks__-1__max_share': 0.1}), '-1 is none of its places'),
    BadInput('config', train(optim_wrapper__optimizer__lr__max=1), 'lr is 0.0015, which holds no keys'),
    BadInput('config', train(optim_wrapper='AdamW'), 'expected a dict, as in the config'),
    BadInput('config', train(custom_hooks='ThroughputHook'), 'expected a list of dicts'),
    BadInput('config', train(model__neck=None), 'expected a value, not None'),
    BadInput('config', train(log_level='LOUD'), 'expected one of DEBUG, INFO'),
    BadInput('config', train(optim_wrapper__accumulative_counts=0), 'expected a whole number of 1 or more'),
    BadInput('config', train(optim_wrapper__type='AmpOptimWrapper'), 'needs a GPU.*MVPOptimWrapper'),
    BadInput('config', train(visualizer__vis_backends__1__type='WandbVisBackend'), 'pip install wandb'),
    BadInput(
        'config', train(optim_wrapper__clip_grad__max_norm=-1), 'max_norm=-1: expected a number above 0'
    ),
    BadInput('config', train(optim_wrapper__optimizer__lr='inf'), 'lr=inf: expected a finite number'),
    BadInput(
        'config', train(optim_wrapper__optimizer__betas='(0.9,1)'), 'expected numbers of 0 or more, below 1'
    ),
    BadInput('config', train(model__backbone__img_size=96), '12x12 patches of 8 pixels: set both alike'),
    BadInput('config', train(model__backbone__drop_path_rate=1), 'drop_path_rate=1: expected a number of 0'),
    BadInput('config', train(train_dataloader__num_workers=-1), 'num_workers=-1: expected'),
    BadInput('config', train(param_scheduler__1__end=1), 'expected a number above its begin=2'),
    BadInput(
        'config',
        test(SEGMENT, 'segmentor.pth', test_dataloader__dataset__pipeline__2__reduce_zero_label=True),
        'test_dataloader.dataset.reduce_zero_label is False: set both alike',
    ),
    BadInput('config', train(CLASSIFY), 'no pre-trained checkpoint was given: add --cfg-options'),
    BadInput('checkpoint', test(checkpoint='notes.txt'), "it is text that begins 'hello, I am a text'"),
    BadInput('checkpoint', test(checkpoint='empty.pth'), 'no plain weight file .it is empty'),
    BadInput('checkpoint', test(checkpoint='truncated.pth'), 'it is damaged, cut off'),
    BadInput('checkpoint', test(checkpoint='pickle.pth'), 'pickle.pth is no plain weight file'),
    BadInput('checkpoint', test(checkpoint='script.pth'), 'a TorchScript archive, which is code'),
    BadInput('checkpoint', test(checkpoint='picture.pth'), 'begins neither as a zip archive nor as a pickle'),
    BadInput('checkpoint', test(checkpoint='archive.pth'), 'archive.pth is no plain weight file'),
    BadInput('checkpoint', test(checkpoint='list.pth'), 'it holds a list, not a dict'),
    BadInput('checkpoint', test(checkpoint='other.pth'), 'no vision transformer; it holds conv, fc'),
    BadInput('checkpoint', test(checkpoint='numbers.pth'), 'no tensors by name in it'),
    BadInput('checkpoint', test(checkpoint='broken.safetensors'), 'broken.safetensors is no plain weight'),
    BadInput('checkpoint', test(SEGMENT, 'trained.pth'), 'it has no neck, no decode_head, .*train first'),
    BadInput('checkpoint', test(CLASSIFY, 'trained.pth'), 'it has no head: .*train first'),
    BadInput('checkpoint', train() + ' --resume weights.pth', 'weights but no meta, .*load_from=weights.pth'),
    BadInput('checkpoint', train() + ' --resume truncated.pth', 'it is damaged, cut off'),
    BadInput(
        'checkpoint', train(train_dataloader__batch_size=4) + ' --resume trained.pth', 'batch_size=8 ke'
    ),
    BadInput(
        'checkpoint',
        train(optim_wrapper__optimizer__type='Adam') + ' --resume trained.pth',
        'trained.pth has the state of AdamW, and this config trains with Adam',
    ),
    BadInput(
        'checkpoint',
        train(optim_wrapper__paramwise_cfg__layer_decay_rate=0.9) + ' --resume trained.pth',
        'parameter groups of .* this config makes groups of .*paramwise_cfg',
    ),
    BadInput('checkpoint', train(load_from='other.pth'), 'other.pth holds no vision transformer'),
    BadInput('checkpoint', train(CLASSIFY, **{INIT: 'other.pth'}), 'other.pth holds no vision transformer'),
    BadInput('checkpoint', train(CLASSIFY, **{INIT: 'gone.pth'}), 'there is no checkpoint gone.pth'),
    BadInput('checkpoint', test(checkpoint='nan.pth'), 'nan.pth has weights that are not finite: 1 of the'),
    BadInput('checkpoint', train() + ' --resume nan.pth', 'not finite: .*take an earlier checkpoint'),
    BadInput('checkpoint', train(load_from='nan.pth'), 'nan.pth has weights that are not finite'),
    BadInput('checkpoint', 'export.py safetensors nan.pth out.safetensors', 'nan.pth has weights .* finite'),
    BadInput('checkpoint', KNN.replace('trained', 'nan'), 'nan.pth has weights that are not finite'),
    BadInput('checkpoint', train(CLASSIFY, **{INIT: 'two.pth'}), 'two.pth holds 2 networks, .* student., te'),
    BadInput(
        'checkpoint',
        train(CLASSIFY, **{INIT: 'two.pth', 'model__backbone__init_cfg__prefix': 'techer.'}),
        'student., teacher., and none under techer.: choose one',
    ),
    BadInput('checkpoint', 'export.py timm two.pth out.pth', 'holds 2 networks.*--prefix teacher.'),
    BadInput('checkpoint', test(checkpoint='two.pth'), 'save the one that is wanted in a file of its own'),
    BadInput('checkpoint', train(CLASSIFY, **{INIT: 'oblong.pth'}), 'the patch grid of its positions cannot'),
    BadInput('checkpoint', 'export.py timm oblong.pth out.pth', 'patch grid of its positions cannot be told'),
    BadInput(
        'checkpoint', 'export.py safetensors weights.pth o.safetensors --prompts sky', 'cannot speak: it'
    ),
    BadInput('checkpoint', 'export.py timm other.pth out.pth', 'other.pth holds no vision transformer'),
    BadInput('checkpoint', 'export.py timm truncated.pth out.pth', 'it is damaged, cut off'),
    BadInput('file', train(data='gone'), 'there is no image folder gone. Give one with'),
    BadInput('file', train(data='gone', **SHARDS), "there are no shards gone of the split 'train'. Expected"),
    BadInput('file', train(data='images', **SHARDS), "there are no shards images of the split 'train'"),
    BadInput(
        'file', train(data='page.tar', **SHARDS), "no sample to use .*page.tar is no plain tar .*b'<html>"
    ),
    BadInput('file', train(**SHARD_SAMPLER), 'ShardSampler is for shards, .*UnlabelledImages has none: use'),
    BadInput(
        'file', train(data='captions.csv', **LIST), 'captions.csv has the columns url, satz, and none of'
    ),
    BadInput('file', 'shards.py captions.csv --out o', "give image_key='NAME'"),
    BadInput('file', 'shards.py page.tar --check', '1 shard has a fault; 0 samples can be used'),
    BadInput('file', train(data='no_images'), 'no image found below no_images/train'),
    BadInput('file', train(data='all_bad'), '11 images in a row cannot be read'),
    BadInput('file', train(data='some_bad'), '2 of 8 images cannot be read, more than the allowed share'),
    BadInput('file', train(train_dataloader__dataset__ann_file='gone.txt'), 'No such file .*gone.txt'),
    BadInput('file', train(**{LISTED: 'utf16.txt'}), 'is no list in UTF-8 .it looks like UTF-16'),
    BadInput('file', train(**{LISTED: 'windows.txt'}), r'windows.txt names: write paths with / in between'),
    BadInput('file', train(**{LISTED: 'notes.txt'}), 'nor any other that was looked at: expected paths'),
    BadInput(
        'file',
        train(CLASSIFY, **{LISTED: '../windows.txt'}, **SCRATCH),
        "line .a.*png': expected a path, a space",
    ),
    BadInput('file', train(CLASSIFY, 'one_class', **SCRATCH), "has one class alone, 'a': expected a folder"),
    BadInput('file', train(CLASSIFY, 'broken_link', **SCRATCH), 'has 1 link to images that are gone'),
    BadInput('file', train(CLASSIFY, 'no_images', **SCRATCH), 'has no sub-folder: expected one for each'),
    BadInput('file', train(CLASSIFY, 'some_bad', **SCRATCH), 'cannot be read .*replace the file, or delete'),
    BadInput(
        'file',
        TRAIN_SEGMENT.format('camvid') + ' train_dataloader.batch_size=1',
        'train_dataloader.batch_size=1, and batch',
    ),
    BadInput('file', TRAIN_SEGMENT.format('unlabelled'), 'unlabelled/annotations/train hold no class'),
    BadInput(
        'file', 'check_dataset.py some_bad', '2 of 16 cannot be read; they are listed in bad_images.txt'
    ),
    BadInput('file', 'prepare_ade20k.py --root ade --archive gone.zip', 'there is no archive gone.zip'),
    BadInput('file', 'prepare_ade20k.py --root ade --archive notes.txt', 'notes.txt is no archive'),
    BadInput('file', 'prepare_ade20k.py --root ade --archive outside.zip', 'outside.zip refused: its entry'),
    BadInput(
        'checkpoint', BY_NAMES.format('sky --checkpoint weights.pth'), 'weights.pth cannot speak: it does'
    ),
    BadInput(
        'checkpoint', BY_NAMES.format('sky --checkpoint segmentor.pth'), 'segmentor.pth cannot speak: it'
    ),
    BadInput(
        'checkpoint',
        BY_NAMES.format(
            'a --checkpoint spoken.pth --teacher configs/teachers/dino_vittiny_scenes.safetensors'
        ),
        'spoken.pth cannot speak: .* holds its vision tower only',
    ),
    BadInput(
        'checkpoint',
        BY_NAMES.format('a --checkpoint spoken.pth --teacher other_clip.safetensors'),
        "another teacher's text tower than the student's",
    ),
    BadInput('checkpoint', BY_NAMES.format('sky --checkpoint spoken.pth'), "'sky'"),
    BadInput('file', SEGMENT_ONE.format('notes.txt'), 'notes.txt is no image'),
    BadInput('file', ATTENTION.format('notes.txt'), 'notes.txt'),
]
# In processes of their own: shell scripts.
OF_THE_SHELL = [
    BadInput('command line', 'dist_train.sh', 'CONFIG GPUS are needed, got 0 arguments', 2),
    BadInput('command line', 'dist_train.sh gone.py 2', 'no such file: gone.py', 2),
    BadInput('command line', f'dist_train.sh {PRETRAIN} two', 'must be a positive whole number, got two', 2),
    BadInput('command line', f'MAX_RESTARTS=-1 dist_train.sh {PRETRAIN} 2', 'must be a whole number', 2),
    BadInput('command line', f'MAX_RESTARTS=3 dist_train.sh {PRETRAIN} 2', 'needs --resume', 2),
    BadInput('command line', f'PORT=none dist_train.sh {PRETRAIN} 2', 'from 1 to 65535, got none', 2),
    BadInput(
        'command line', f'NNODES=2 NODE_RANK=2 dist_train.sh {PRETRAIN} 2', 'got NNODES=2 NODE_RANK=2', 2
    ),
    BadInput('command line', f'dist_test.sh {PRETRAIN} gone.pth 2', 'no such file: gone.pth', 2),
    BadInput('command line', 'slurm_train.sh part job gone.py run', 'no such file: gone.py', 2),
    BadInput(
        'command line', f'GPUS=9 GPUS_PER_NODE=8 slurm_train.sh p j {PRETRAIN} run', 'not a multiple', 2
    ),
]


def make_folder(root: Path) -> None:
    """Everything that the command lines name."""
    (root / 'configs').symlink_to(ROOT / 'configs')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('a', 'b'):
            for top in ('images', 'some_bad'):
                (root / top / split / name).mkdir(parents=True)
                for number in range(4):
                    pixels = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / top / split / name / f'{number}.png')
        for kind, shape in (('images', (48, 64, 3)), ('annotations', (48, 64))):
            (root / 'camvid' / kind / split).mkdir(parents=True)
            for number in range(2):
                path = root / 'camvid' / kind / split / f'{number}.{"jpg" if len(shape) == 3 else "png"}'
                Image.fromarray(rng.integers(0, 11, shape, dtype=np.uint8)).save(path)
    shutil.copytree(root / 'camvid', root / 'unlabelled')
    for path in (root / 'unlabelled').glob('annotations/*/*'):
        Image.new('L', (64, 48), 255).save(path)
    for name in ('a/0.png', 'b/1.png'):
        (root / 'some_bad/train' / name).write_bytes(b'')
    (root / 'no_images/train').mkdir(parents=True)
    (root / 'one_class/train').mkdir(parents=True)
    (root / 'one_class/train/a').symlink_to(root / 'images/train/a')
    for name in 'ab':
        (root / 'broken_link/train' / name).mkdir(parents=True)
    (root / 'broken_link/train/a/0.png').symlink_to('gone.png')
    (root / 'all_bad').mkdir()
    for number in range(20):
        (root / 'all_bad' / f'{number}.jpg').write_text('no image')
    _write_configs(root)
    _write_checkpoints(root)
    with zipfile.ZipFile(root / 'outside.zip', 'w') as archive:
        archive.writestr('../outside.txt', 'written outside of the folder')


def _write_configs(root: Path) -> None:
    (root / 'notes.txt').write_text('hello, I am a text\n')
    (root / 'utf16.txt').write_text('a/0.png\n', 'utf-16')
    (root / 'page.tar').write_text('<html>no access</html>' * 40)
    (root / 'captions.csv').write_text('url,satz\nx,y\n')
    (root / 'windows.txt').write_text('a\\0.png\n')
    (root / 'syntax.py').write_text('model = dict(\n')
    (root / 'undefined.py').write_text('model = dict(type=name_of_model)\n')
    (root / 'no_base.py').write_text("_base_ = './gone.py'\n")
    (root / 'no_package.py').write_text("_base_ = 'mvpmm::mvp/vitb16_in1k.py'\n")
    (root / 'empty.py').write_text('')
    (root / 'list.json').write_text('[1]')
    (root / 'bytes.py').write_bytes(bytes(range(256)))
    (root / 'no_loader.py').write_text(f'_base_ = {PRETRAIN!r}\ntrain_dataloader = None\n')


def _write_checkpoints(root: Path) -> None:
    """One that training can go on from, and what is wrong in many ways."""
    cfg = mvp_mm.engine.load_config(str(root / PRETRAIN), str(root / 'made'))
    cfg.train_dataloader.dataset.data_root = str(root / 'images')
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_cfg.max_epochs = 1
    mvp_mm.engine.build_runner(cfg).train()
    good = (root / 'made/epoch_1.pth').rename(root / 'trained.pth')
    content = torch.load(good, weights_only=True)
    torch.save(content['state_dict'], root / 'weights.pth')
    weights = {name: value.clone() for name, value in content['state_dict'].items()}
    torch.save(dict(student=weights, teacher=weights), root / 'two.pth')
    weights['backbone.cls_token'][0, 0, 0] = float('nan')
    torch.save({**content, 'state_dict': weights}, root / 'nan.pth')
    table = 'backbone.rel_pos_bias.relative_position_bias_table'
    oblong = {name: value for name, value in content['state_dict'].items() if not name.endswith('_index')}
    torch.save({**oblong, table: torch.zeros(15 * 23 + 3, oblong[table].shape[1])}, root / 'oblong.pth')
    segmentor = Config.fromfile(ROOT / SEGMENT)
    segmentor.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(segmentor.default_scope):
        torch.save(MODELS.build(segmentor.model).state_dict(), root / 'segmentor.pth')
    (root / 'empty.pth').touch()
    spoken = mvp_mm.get_model('mvp_vittiny_scenes', pretrained=True)
    torch.save(dict(meta=dict(speech=spoken.speech()), state_dict=spoken.state_dict()), root / 'spoken.pth')
    other = mvp_mm.get_model('teachers_clip_vittiny_scenes').clip.state_dict()
    save_file(other, root / 'other_clip.safetensors', metadata=dict(quick_gelu='False'))
    (root / 'truncated.pth').write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (root / 'pickle.pth').write_bytes(pickle.dumps(Path.touch))
    torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)).save(str(root / 'script.pth'))
    Image.new('RGB', (8, 8)).save(root / 'picture.pth', format='PNG')
    with zipfile.ZipFile(root / 'archive.pth', 'w') as archive:
        archive.writestr('readme.txt', 'no weights')
    torch.save([1, 2], root / 'list.pth')
    torch.save({'conv.weight': torch.zeros(3, 3), 'fc.bias': torch.zeros(3)}, root / 'other.pth')
    torch.save(dict(state_dict={'backbone.cls_token': 1.0}), root / 'numbers.pth')
    (root / 'broken.safetensors').write_bytes(b'\xff' * 40)


def answer(command: str) -> tuple[str, int]:
    """Run a tool in this process, in the current folder.

    Args:
        command: As typed.

    Returns:
        The line that tells what is wrong, and the exit status; of a traceback its last line, and -1.
    """
    name, *arguments = command.split()
    printed, status, told = io.StringIO(), 0, ''
    before = sys.argv
    sys.argv = [f'tools/{name}', *arguments]
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        told = error.code if isinstance(error.code, str) else printed.getvalue()
    except BaseException:
        return traceback.format_exc().strip().splitlines()[-1], -1
    finally:
        sys.argv = before
    lines = [line for line in told.splitlines() if line and not line.startswith('(MVP_MM_TRACEBACK')]
    first = next(
        (i for i, line in enumerate(lines) if 'ERROR: ' in line or ' error: ' in line), len(lines) - 1
    )
    return ' '.join(line.strip() for line in lines[first:]), status


def answer_of_the_shell(command: str) -> tuple[str, int]:
    """Run a shell script of tools/, as :func:`answer` does."""
    *variables, name = command.split()[
        : next(i for i, word in enumerate(command.split(), 1) if '=' not in word)
    ]
    arguments = command.split()[len(variables) + 1 :]
    environment = {**os.environ, **dict(variable.split('=') for variable in variables)}
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / name), *arguments], env=environment, capture_output=True, text=True
    )
    return done.stderr.splitlines()[0], done.returncode


def table(answers: Sequence[tuple[str, int]]) -> str:
    """The page with every input and its answer.

    Args:
        answers: One for each of ``BAD_INPUTS``, then of ``OF_THE_SHELL``.

    Returns:
        Markdown.
    """
    bad_inputs = [*BAD_INPUTS, *OF_THE_SHELL]
    rows = [f'# {len(bad_inputs)} bad inputs, and what they are answered', '', ABOUT]
    for kind in dict.fromkeys(bad.kind for bad in bad_inputs):
        rows += ['', f'## {kind.capitalize()}s', '', '| input | answer | exit status |', '|---|---|---|']
        for bad, (told, status) in zip(bad_inputs, answers, strict=True):
            if bad.kind == kind:
                shown = told.replace('|', '\\|').replace('<', '&lt;')
                rows.append(f'| `{_short(bad.command)}` | {shown} | {status} |')
    return '\n'.join(rows) + '\n'


ABOUT = """Made by `python tests/test_engine/bad_inputs.py docs/bad_inputs.md`, which runs every line and
writes what it is answered. tests/test_engine/test_bad_inputs.py checks each in every test run: the words, the
exit status, and that there is no traceback. `…` stands for options with which the command would work: the
data, no workers, one epoch. `DIR` is the folder in which it runs. The files are what their names say
(`truncated.pth`, `syntax.py`, …)."""


def _short(command: str) -> str:
    """Without the options that make a command quick."""
    usual = (
        'train_dataloader.num_workers=0',
        'test_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
    )
    usual += (
        'test_dataloader.persistent_workers=False',
        'train_cfg.max_epochs=1',
        'model.head.num_classes=2',
    )
    usual += tuple(f'{name}_dataloader.dataset.data_root=images' for name in ('train', 'val', 'test'))
    usual += ('test_dataloader.dataset.data_root=camvid',)
    words = command.replace(' --work-dir run', '').split()
    kept = [word for word in words if word not in usual]
    ends = [*kept[1:], '--']
    kept = [
        word for word, then in zip(kept, ends, strict=True) if (word, then[:2]) != ('--cfg-options', '--')
    ]
    return ' '.join(kept + ['…'] * (kept != words))


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_folder(Path(folder))
        found = [answer(bad.command) for bad in BAD_INPUTS]
        found += [answer_of_the_shell(bad.command) for bad in OF_THE_SHELL]
        inside = os.path.realpath(folder)
    plain = [(told.replace(inside, 'DIR').replace(f'{ROOT}/', ''), status) for told, status in found]
    out.write_text(table(plain))


if __name__ == '__main__':
    main()
