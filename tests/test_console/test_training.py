"""One line to a config, and to a run of it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from PIL import Image

import mvp_mm
from mvp_mm.console.training import set_length
from mvp_mm.datasets.prepare.shards import write_shards
from mvp_mm.zoo import model_config

TEACHER = 'teachers_clip_vittiny_scenes'


@pytest.fixture
def labelled(tmp_path):
    """Two classes of four images for training, and as many for validation."""
    for split in ('train', 'val'):
        for name in ('cats', 'dogs'):
            folder = tmp_path / 'labelled' / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new('RGB', (72, 72), (30 * number, 50, 90)).save(folder / f'{number}.jpg')
    return tmp_path / 'labelled'


@pytest.mark.slow
def test_pretrain_writes_what_it_runs_and_goes_on(image_folder, tmp_path, capsys):
    out = tmp_path / 'run'
    how = dict(data=image_folder, out=out, student='vit-tiny', teacher=TEACHER)
    (image_folder / 'photo.heic').touch()
    options = {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}
    path = mvp_mm.pretrain(**how, epochs=2, options=options)
    cfg = Config.fromfile(path)
    assert path == out / 'pretrain.py' and [file.name for file in out.glob('*.py')] == ['pretrain.py']
    assert cfg.model.target_generator.pretrained.endswith('clip_vittiny_scenes.safetensors')
    assert cfg.model.neck.out_channels == 96 and cfg.train_dataloader.batch_size == 8
    assert cfg.train_dataloader.num_workers == 0 and cfg.train_cfg.max_epochs == 2
    first = torch.load(out / 'epoch_2.pth', weights_only=True)['state_dict']
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == f'Pre-training vit-tiny: 8 images of {image_folder}, taught by {TEACHER}'
    assert '  batch    8 images (total batch of mvp/vittiny_debug.py: 16)' in lines
    assert '  left out 1 .heic' in lines
    assert printed.count('instead of the 16 of the recipe') == 1  # the engine's warning, once
    assert [line[:16] for line in lines[-4:-2]] == ['epoch 1/2   50 %', 'epoch 2/2  100 %']
    assert lines[-2] == f'Done: {out}/epoch_2.pth' and len(lines) < 12 and '\x1b' not in printed
    mvp_mm.pretrain(**how, epochs=3, options=options)
    printed = capsys.readouterr().out
    assert 'Resumed after iteration 2 of 3' in printed
    assert printed.count("differs from the checkpoint's: train_cfg.max_epochs 2 -> 3") == 1
    second = torch.load(out / 'epoch_3.pth', weights_only=True)
    assert second['meta']['iter'] == 3
    assert any(not torch.equal(first[name], value) for name, value in second['state_dict'].items())
    logs = ''.join(path.read_text() for path in out.glob('*/*.log'))
    assert 'resumed epoch: 2' in logs
    assert "differs from the checkpoint's: train_cfg.max_epochs 2 -> 3; param_scheduler" in logs
    # the third epoch has the learning rate of three epochs straight; half the recipe's batch halves it
    cfg = Config.fromfile(path)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=cfg.optim_wrapper.optimizer.lr * 0.5)
    schedules = []
    for schedule in map(dict, cfg.param_scheduler):
        build = PARAM_SCHEDULERS.get(schedule.pop('type')).build_iter_from_epoch
        del schedule['convert_to_iter_based']
        schedules.append(build(optimizer=optimizer, epoch_length=1, **schedule))
    for schedule in schedules * 2:
        schedule.step()
    rates = second['message_hub']['log_scalars']['train/lr']['log_history'].tolist()
    assert len(rates) == 3 and rates[2] == optimizer.param_groups[0]['lr'] != rates[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    'teacher,kind,width',
    [
        ('ViT-B-16-quickgelu/openai', 'CLIPTargetGenerator', 512),
        ('ViT-L-14/random', 'CLIPTargetGenerator', 768),
        ('timm:vit_small_patch14_dinov2.lvd142m', 'TimmTargetGenerator', 384),
    ],
)
def test_teachers(teacher, kind, width, image_folder, tmp_path):
    path = mvp_mm.pretrain(
        image_folder, tmp_path, 'vit-tiny', teacher, dry_run=True, options={'train_cfg.max_epochs': 3}
    )
    cfg = Config.fromfile(path)
    generator = cfg.model.target_generator
    assert generator.type == kind and cfg.model.neck.out_channels == width
    assert generator.patch_size == cfg.model.backbone.patch_size == 8
    assert generator.pretrained == {'openai': 'openai', 'random': None}.get(teacher.split('/')[-1], True)
    assert cfg.train_cfg.max_epochs == 3


@pytest.mark.slow
def test_downstream_configs(labelled, tmp_path):
    student = tmp_path / 'student.pth'
    student.write_bytes(b'')
    path = mvp_mm.finetune(labelled, tmp_path / 'a', str(student), 'vit-tiny', epochs=4, dry_run=True)
    cfg = Config.fromfile(path)
    assert cfg.model.head.num_classes == 2 and cfg.model.backbone.init_cfg.checkpoint == str(student)
    assert cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root == str(labelled)
    assert cfg.train_cfg.max_epochs == 4 and cfg.param_scheduler[-1].end == 4
    path = mvp_mm.probe(labelled, tmp_path / 'b', None, 'vit-tiny', dry_run=True)
    cfg = Config.fromfile(path)
    assert cfg.model.head.type == 'LinearProbeHead' and cfg.model.backbone.init_cfg is None
    maps = tmp_path / 'maps'
    for kind in ('images', 'annotations'):
        (maps / kind / 'train').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='no image in .* ends with .jpg'):
        mvp_mm.finetune(maps, tmp_path / 'c', None, 'vit-tiny', task='segmentation', classes=['a', 'b'])
    for number in range(8):
        (maps / f'images/train/{number}.png').write_bytes(b'')
    segmentation = dict(task='segmentation', classes=['a', 'b', 'c'], iterations=20, image_suffix='.png')
    path = mvp_mm.finetune(maps, tmp_path / 'c', None, 'vit-tiny', dry_run=True, **segmentation)
    cfg = Config.fromfile(path)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 3
    assert cfg.train_dataloader.dataset.metainfo.classes == ('a', 'b', 'c')
    assert cfg.train_cfg.max_iters == 20 and cfg.train_dataloader.dataset.img_suffix == '.png'


@pytest.mark.slow
def test_mistakes(image_folder, labelled, tmp_path):
    with pytest.raises(ValueError, match='no student .vit-huge.; there is: vit-tiny'):
        mvp_mm.pretrain(image_folder, tmp_path, 'vit-huge')
    with pytest.raises(
        ValueError, match='no config to probe with vit-large; there is with: vit-tiny, vit-base'
    ):
        mvp_mm.probe(labelled, tmp_path, None, 'vit-large')
    with pytest.raises(ValueError, match="'openai' is no teacher: expected MODEL/TAG"):
        mvp_mm.pretrain(image_folder, tmp_path, 'vit-tiny', 'openai')
    with pytest.raises(ValueError, match='open_clip knows no model'):
        mvp_mm.pretrain(image_folder, tmp_path, 'vit-tiny', 'ViT-Z/openai')
    with pytest.raises(ValueError, match='no teacher .teachers_clip.; it has: teachers_clip_vitt'):
        mvp_mm.pretrain(image_folder, tmp_path, 'vit-tiny', 'teachers_clip')
    with pytest.raises(FileNotFoundError, match='no checkpoint gone.pth'):
        mvp_mm.finetune(labelled, tmp_path, 'gone.pth', 'vit-tiny')
    with pytest.raises(ValueError, match='needs two classes or more'):
        mvp_mm.finetune(labelled, tmp_path, None, task='segmentation', classes=['a'])


def test_the_schedule_follows_the_length():
    cfg = model_config('mvp_vitb16_in1k')
    set_length(cfg, 30)
    assert [(s.type, s.begin, s.end) for s in cfg.param_scheduler] == [
        ('LinearLR', 0, 1),
        ('CosineAnnealingLR', 1, 30),
    ]
    assert cfg.train_cfg.max_epochs == 30
    set_length(cfg, 1)
    assert [(s.type, s.begin, s.end) for s in cfg.param_scheduler] == [('CosineAnnealingLR', 0, 1)]
    cfg = model_config('upernet_vitb16_custom_512x512')
    set_length(cfg, 1600)
    assert [(s.begin, s.end) for s in cfg.param_scheduler] == [(0, 15), (15, 1600)]
    assert cfg.train_cfg.val_interval == 1600 and cfg.default_hooks.checkpoint.interval == 1600
    with pytest.raises(ValueError, match='expected 1 or more'):
        set_length(cfg, 0)


@pytest.mark.parametrize(
    'request_,said',
    [
        (dict(batch=0), 'batch: 0 is no whole number of 1 or more'),
        (dict(batch=-3), 'batch: -3 is no whole number'),
        (dict(epochs=0), 'epochs or iterations: 0 is no whole number'),
        (dict(epochs=1.5), 'epochs or iterations: 1.5 is no whole number'),
        (dict(data=''), 'names no folder: give the folder of the data'),
        (dict(data='  '), 'names no folder'),
        (dict(options={'optim_wrapper.clip_grad.maxnorm': 1}), 'did you mean max_norm'),
        (dict(options={'model.target_generator.pretraned': 1}), 'did you mean pretrained'),
        (dict(options={'optim_wrapper.optimizer.lr': float('inf')}), 'lr=inf: expected a finite number'),
        (dict(options={'param_scheduler.5.end': 1}), 'param_scheduler is a list of 2'),
    ],
)
def test_requests_are_refused_before_anything_is_made(request_, said, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr('mvp_mm.console.training.batch_size', lambda *args: pytest.fail('a model was tried'))
    how = dict(data=image_folder, out=tmp_path / 'out', student='vit-tiny', teacher=TEACHER, dry_run=True)
    with pytest.raises(ValueError, match=said):
        mvp_mm.pretrain(**{**how, **request_})
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('classes', [['road', 'road'], ['road', ''], ['road', ' ']])
def test_classes_have_names_of_their_own(classes, tmp_path):
    with pytest.raises(ValueError, match='every class needs a name of its own'):
        mvp_mm.finetune(tmp_path, tmp_path / 'out', None, 'vit-tiny', task='segmentation', classes=classes)


@pytest.mark.slow
def test_another_student_leaves_a_run_as_it_is(image_folder, tmp_path):
    how = dict(data=image_folder, out=tmp_path / 'a', teacher='ViT-B-16-quickgelu/random', dry_run=True)
    path = mvp_mm.pretrain(student='vit-tiny', **how)
    (tmp_path / 'a/epoch_1.pth').write_bytes(b'')
    written = path.read_text()
    for student in ('vit-base', 'timm:test_convnext/random'):
        with pytest.raises(ValueError, match=f'a run of another student, .* another --out for {student}'):
            mvp_mm.pretrain(student=student, **how)
    assert path.read_text() == written
    with pytest.raises(ValueError, match='pretrain.py is a file: expected a folder'):
        mvp_mm.pretrain(**dict(how, out=path), student='vit-tiny')


@pytest.mark.slow
def test_pretrains_on_shards(image_folder, tmp_path, capsys):
    write_shards(image_folder, tmp_path / 'shards', per_shard=3, progress=False)
    options = {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}
    how = dict(data=tmp_path / 'shards', out=tmp_path / 'run', student='vit-tiny', teacher=TEACHER)
    path = mvp_mm.pretrain(**how, epochs=1, options=options)
    told = capsys.readouterr().out
    assert f'Pre-training vit-tiny: 8 images of {tmp_path}/shards' in told
    assert Config.fromfile(path).train_dataloader.sampler.type == 'ShardSampler'
    assert (tmp_path / 'run/epoch_1.pth').is_file()


@pytest.mark.slow
def test_a_run_from_other_weights_is_not_gone_on_with(labelled, tmp_path):
    student = tmp_path / 'student.pth'
    student.write_bytes(b'')
    path = mvp_mm.probe(labelled, tmp_path / 'a', str(student), 'vit-tiny', dry_run=True)
    mvp_mm.probe(labelled, tmp_path / 'a', None, 'vit-tiny', dry_run=True)  # nothing was trained
    mvp_mm.probe(labelled, tmp_path / 'a', str(student), 'vit-tiny', dry_run=True)
    (tmp_path / 'a/epoch_1.pth').write_bytes(b'')
    written = path.read_text()
    with pytest.raises(ValueError, match=r'a run from .*student.pth, .* from random weights: choose another'):
        mvp_mm.probe(labelled, tmp_path / 'a', None, 'vit-tiny', dry_run=True)
    assert path.read_text() == written
    mvp_mm.probe(labelled, tmp_path / 'a', str(student), 'vit-tiny', epochs=2, dry_run=True)
    options = {'model.backbone.init_cfg.checkpoint': str(student)}
    mvp_mm.probe(labelled, tmp_path / 'a', None, 'vit-tiny', options=options, dry_run=True)
