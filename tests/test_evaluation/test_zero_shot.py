"""Zero-shot classification against open_clip's own, on random images and on photographs."""

import re
import tarfile

import open_clip
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchrun_jobs import forked

from mvp_mm.engine.distributed.process_group import begin_process_group
from mvp_mm.evaluation import KNN, ZeroShot
from mvp_mm.evaluation.knn import knn_accuracy
from mvp_mm.models.prompts.coop import CoOp
from mvp_mm.models.prompts.saved_prompts import save_prompts

from ..conftest import SHARED
from .conftest import speaking_config

NAMES = ['goldfish', 'red fox', 'fire engine', 'pirate ship', 'daisy', 'volcano', 'teapot']
TOKENIZER = open_clip.SimpleTokenizer(context_length=77)


def images(count, seed=0):
    """Smooth uint8 images ``(count, 3, 32, 32)``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return (F.interpolate(coarse, 32, mode='bicubic').clamp(0, 1) * 255).to(torch.uint8)


def collate(samples):
    return dict(
        inputs=[sample['inputs'] for sample in samples],
        data_samples=[sample['data_samples'] for sample in samples],
    )


def loader_of(pixels, labels, batch=4):
    samples = [
        dict(inputs=image, data_samples=DataSample().set_gt_label(int(label)))
        for image, label in zip(pixels, labels, strict=True)
    ]
    return DataLoader(samples, batch, collate_fn=collate)


def open_clips_logits(clip, pixels, names, templates):
    """Of CLIP's pixels, by open_clip's own functions."""
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    classifier = open_clip.build_zero_shot_classifier(clip, TOKENIZER, names, templates)
    with torch.no_grad():
        return 100 * clip.encode_image((pixels / 255 - mean) / std, normalize=True) @ classifier


@pytest.mark.parametrize('templates', ['openai', 'simple'])
def test_the_teacher_predicts_as_open_clip_does(clip, speaker, templates):
    pixels = images(23)
    own = dict(openai=open_clip.OPENAI_IMAGENET_TEMPLATES, simple=open_clip.SIMPLE_IMAGENET_TEMPLATES)
    logits = open_clips_logits(clip[0], pixels, NAMES, own[templates])
    assert len(logits.argmax(1).unique()) > 1
    options = dict(classes=NAMES, templates=templates, of='teacher')
    found = ZeroShot(loader_of(pixels, logits.argmax(1)), **options).evaluate(speaker)
    assert found == dict(teacher_top1=100.0, teacher_top5=100.0)
    labels = torch.arange(23) % len(NAMES)
    found = ZeroShot(loader_of(pixels, labels), **options).evaluate(speaker)
    right = logits.topk(5).indices == labels[:, None]
    assert found['teacher_top1'] == pytest.approx(100 * right[:, 0].double().mean().item())
    assert found['teacher_top5'] == pytest.approx(100 * right.sum().item() / 23)
    assert 0 < found['teacher_top5'] < 100


def expected_of_student(speaker, pixels, names, templates='simple'):
    preprocessor = speaker.data_preprocessor
    with torch.no_grad():
        tokens = speaker.backbone((pixels - preprocessor.mean) / preprocessor.std)[-1]
        cls = F.normalize(speaker.neck(tokens)[:, 0], dim=-1)
    vectors = [speaker.text_tower.class_embeddings([name], templates).vectors[0] for name in names]
    return cls @ torch.stack(vectors).T


def test_student_teacher_and_gap(clip, speaker, monkeypatch):
    pixels, labels = images(10), torch.arange(10) % len(NAMES)
    cosines = expected_of_student(speaker, pixels, NAMES)
    student = 100 * (cosines.argmax(1) == labels).double().mean().item()
    teacher = open_clips_logits(clip[0], pixels, NAMES, open_clip.SIMPLE_IMAGENET_TEMPLATES)
    teacher = 100 * (teacher.argmax(1) == labels).double().mean().item()
    evaluator = ZeroShot(loader_of(pixels, labels), NAMES, templates='simple', of='both')
    found = evaluator.evaluate(speaker)
    assert found['top1'] == student and found['teacher_top1'] == teacher
    assert found['gap_top1'] == teacher - student
    assert set(found) == {f'{part}{name}' for part in ('', 'teacher_', 'gap_') for name in ('top1', 'top5')}
    assert set(ZeroShot(loader_of(pixels, labels), NAMES).evaluate(speaker)) == {'top1', 'top5'}
    # the teacher never changes: its images are not encoded again
    monkeypatch.setattr(type(speaker.target_generator), 'forward', None)
    assert evaluator.evaluate(speaker) == found


def test_the_best_of_a_classes_names_counts(speaker):
    pixels = images(12)
    cosines = expected_of_student(speaker, pixels, NAMES)
    classes = ['goldfish, red fox', 'fire engine', ['pirate ship', 'daisy', 'volcano'], 'teapot']
    groups = ([0, 1], [2], [3, 4, 5], [6])
    best = torch.stack([cosines[:, group].amax(1) for group in groups], 1).argmax(1)
    loader = loader_of(pixels, best)
    assert ZeroShot(loader, classes, templates='simple').evaluate(speaker) == dict(top1=100.0)


def evaluated(clip, folder):
    begin_process_group('pytorch', dict(backend='gloo'))
    torch.manual_seed(7)
    return evaluated_alone(clip)


def evaluated_alone(clip):
    model = MODELS.build(speaking_config(clip)).eval()
    loader = loader_of(images(13), torch.arange(13) % len(NAMES))
    return ZeroShot(loader, NAMES, templates='plain', of='both').evaluate(model)


def test_two_processes_find_what_one_does(clip, tmp_path, monkeypatch):
    """Thirteen images in batches of four: one process has five of them."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    torch.manual_seed(7)
    expected = evaluated_alone(clip)
    assert forked(evaluated, clip, tmp_path) == [expected, expected]


def test_learnt_prompts_take_the_place_of_templates(speaker, tmp_path):
    learner = CoOp(num_context=2, text_tower=speaker.text_tower)
    save_prompts(learner, tmp_path / 'prompts.safetensors')
    loader = loader_of(images(5), torch.zeros(5))
    evaluator = ZeroShot(loader, NAMES, prompts=str(tmp_path / 'prompts.safetensors'))
    with torch.no_grad():
        expected = F.normalize(learner(NAMES), dim=-1)
    assert torch.allclose(evaluator.embeddings(speaker).vectors, expected, atol=1e-6)
    with pytest.raises(ValueError, match='expected one of them, or neither'):
        ZeroShot(loader, NAMES, 'plain', prompts=str(tmp_path / 'prompts.safetensors'))


def test_wrong_classes_are_named(speaker):
    loader = loader_of(images(2), [0, 7])
    with pytest.raises(ValueError, match='an image has label 7, but classes has 7 entries'):
        ZeroShot(loader, NAMES, templates='plain').evaluate(speaker)


def test_among_some_classes(clip, speaker):
    pixels, among = images(12), (1, 4, 6)
    named = dict(classes=NAMES, templates='simple', of='teacher')
    logits = open_clips_logits(clip[0], pixels, NAMES, open_clip.SIMPLE_IMAGENET_TEMPLATES)
    expected = torch.tensor(among)[logits[:, among].argmax(1)]
    assert (expected != logits.argmax(1)).any()
    found = ZeroShot(loader_of(pixels, expected), among=among, **named).evaluate(speaker)
    assert found == dict(teacher_top1=100.0)
    with pytest.raises(ValueError, match='an image has label 0, which is not in `among`'):
        ZeroShot(loader_of(pixels, expected * 0), among=among, **named).evaluate(speaker)
    with pytest.raises(ValueError, match=r'among=\[7\]: expected numbers of classes, of 0 to 6'):
        ZeroShot(loader_of(pixels, expected), among=[7], **named)


def test_names_of_the_dataset(clip, speaker):
    class Named(list):
        metainfo = dict(classes=tuple(NAMES))

    pixels = images(4)
    logits = open_clips_logits(clip[0], pixels, NAMES, open_clip.SIMPLE_IMAGENET_TEMPLATES)
    loader = loader_of(pixels, logits.argmax(1))
    with pytest.raises(ValueError, match='does not tell the names of its classes: give `classes`'):
        ZeroShot(loader)
    loader = DataLoader(Named(loader.dataset), 4, collate_fn=collate)
    found = ZeroShot(loader, templates='simple', of='teacher').evaluate(speaker)
    assert found['teacher_top1'] == 100


def test_a_dataset_with_other_classes():
    data = type('Data', (list,), dict(metainfo=dict(classes=['cat', 'dog'])))([1, 2])
    with pytest.raises(ValueError, match='ZeroShot: classes has 7 entries and the dataset 2 classes'):
        ZeroShot(DataLoader(data), NAMES)
    with pytest.raises(ValueError, match="of='pupil' is none of 'student', 'teacher', 'both'|of="):
        ZeroShot(DataLoader([1]), NAMES, of='pupil')
    with pytest.raises(ValueError, match="no class names of 'imagenette'"):
        ZeroShot(DataLoader([1]), 'imagenette')


@pytest.mark.parametrize(
    'generator, message',
    [
        (dict(space='hidden', neck=32), 'cannot speak: its tokens are before the projection'),
        (dict(_delete_=True), 'a PixelTargetGenerator cannot speak: it has no text tower'),
    ],
)
def test_students_that_cannot_speak(clip, generator, message):
    config = speaking_config(clip)
    if generator.pop('_delete_', False):
        config['target_generator'] = dict(type='PixelTargetGenerator', patch_size=8)
        config['neck']['out_channels'] = 192
    else:
        config['neck']['out_channels'] = generator.pop('neck')
        config['target_generator'] |= generator
    model = MODELS.build(config).eval()
    for of in ('student', 'teacher'):
        with pytest.raises(ValueError, match=message):
            ZeroShot(loader_of(images(2), [0, 1]), NAMES, of=of).evaluate(model)


def test_models_of_another_kind():
    loader = loader_of(images(2), [0, 1])
    with pytest.raises(ValueError, match='a Linear cannot speak: expected an MVP'):
        ZeroShot(loader, NAMES).evaluate(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="Linear has no target_generator: use of='student'"):
        ZeroShot(loader, NAMES, of='teacher').evaluate(torch.nn.Linear(1, 1))


@pytest.fixture(scope='module')
def tiny_imagenet(tmp_path_factory):
    """300 validation photographs as ``val/<class>/*``, and the classes' first names in their order."""
    source = SHARED / 'data' / 'tiny_imagenet'
    if not source.is_dir():
        pytest.skip('Tiny-ImageNet is not beside the project')
    folder = tmp_path_factory.mktemp('tiny_imagenet')
    rows = [line.split('\t') for line in (source / 'classes.txt').read_text().splitlines()]
    for wnid, _ in rows:
        (folder / 'val' / wnid).mkdir(parents=True)
    with tarfile.open(source / 'val-0000.tar') as tar:
        for name in tar.getnames()[:900]:
            if name.endswith('.jpg'):
                label = int(tar.extractfile(name.replace('.jpg', '.cls')).read())
                (folder / 'val' / rows[label][0] / name).write_bytes(tar.extractfile(name).read())
    return folder, [re.split(', ', names)[0] for _, names in rows]


@pytest.mark.slow
def test_photographs(clip, speaker, tiny_imagenet):
    """From files through the pipeline of the configs, against open_clip from files on; and k-NN."""
    folder, names = tiny_imagenet
    pipeline = [
        dict(type='LoadRGBImage'),
        dict(type='torchvision/Resize', size=32, interpolation='bicubic'),
        dict(type='torchvision/CenterCrop', size=32),
        dict(type='PackMaskedInputs', fields=('gt_label',)),
    ]
    dataset = DATASETS.build(
        dict(type='LabelledImages', data_root=str(folder), split='val', pipeline=pipeline)
    )
    assert len(dataset) == 300
    loader = DataLoader(dataset, 64, collate_fn=default_collate)
    of_both = ZeroShot(loader, names, templates='simple', of='both').evaluate(speaker)
    paths = [dataset.get_data_info(index) for index in range(300)]
    labels = torch.tensor([info['gt_label'] for info in paths])
    transform = open_clip.image_transform(32, is_train=False)
    pixels = torch.stack([transform(Image.open(info['img_path'])) for info in paths])
    classifier = open_clip.build_zero_shot_classifier(
        clip[0], TOKENIZER, names, open_clip.SIMPLE_IMAGENET_TEMPLATES
    )
    with torch.no_grad():
        ranked = (clip[0].encode_image(pixels, normalize=True) @ classifier).topk(5).indices
    right = ranked == labels[:, None]
    assert of_both['teacher_top1'] == pytest.approx(100 * right[:, 0].sum().item() / 300)
    assert of_both['teacher_top5'] == pytest.approx(100 * right.sum().item() / 300)
    knn = KNN(loader, loader, ks=[1, 10], pool='cls')
    features, found = knn.features(speaker, loader)
    assert torch.equal(found, labels) and features.shape == (300, 32)
    tenth = knn_accuracy(features, labels, features, labels, ks=[10])[0]
    result = knn.evaluate(speaker)
    assert result['top1_k1'] == 100.0 and result['top1_k10'] == pytest.approx(tenth.top1)
