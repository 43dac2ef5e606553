import json

import numpy as np
import open_clip
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from mvp_mm.datasets.transforms.decode_image import decode_image
from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.speaking.dense import dense_cosines, label_map

WORDS = ['a', 'red', 'blue', 'ring', 'star']
CONFIG = dict(
    embed_dim=24,
    vision_cfg=dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16),
    text_cfg=dict(
        context_length=8, vocab_size=8, width=16, heads=2, layers=1, tokenizer_kwargs=dict(words=WORDS)
    ),
)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    torch.manual_seed(5)
    clip = open_clip.CLIP(*CONFIG.values()).eval()
    for parameter in clip.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    (tmp_path / 'clip.json').write_text(json.dumps(CONFIG))
    save_file({k: v.clone() for k, v in clip.state_dict().items()}, tmp_path / 'clip.safetensors')
    return clip, str(tmp_path / 'clip.json'), str(tmp_path / 'clip.safetensors')


def teacher_of(files, **options):
    return CLIPTargetGenerator(*files[1:], quick_gelu=False, patch_size=8, **options)


def student_of(files):
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    return MODELS.build(
        dict(
            type='MVP',
            backbone=dict(
                type='MVPViT',
                arch=arch,
                img_size=32,
                patch_size=8,
                out_type='raw',
                with_mask_token=True,
                use_rel_pos_bias=False,
                use_shared_rel_pos_bias=True,
            ),
            neck=dict(type='MVPNeck', in_channels=32, out_channels=24),
            target_generator=dict(
                type='CLIPTargetGenerator',
                model_name=files[1],
                pretrained=files[2],
                quick_gelu=False,
                patch_size=8,
            ),
        )
    ).eval()


def normalised(images, mean, std):
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_the_teacher_classifies_as_open_clip_does(files):
    clip, teacher = files[0], teacher_of(files)
    pixels = torch.randint(0, 256, (5, 3, 32, 32)).float()
    found = teacher.zero_shot(normalised(pixels, *teacher._statistics[:2].tolist()), ['a ring', 'a red star'])
    with torch.no_grad():
        clips = normalised(pixels / 255, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        tokens = teacher.text_tower.tokenizer(['a ring', 'a red star'])
        image, text = clip.encode_image(clips, normalize=True), clip.encode_text(tokens, normalize=True)
        expected = (clip.logit_scale.exp().clamp(max=100) * image @ text.T).softmax(-1)
    assert (found - expected).abs().max() < 1e-4
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_a_student_speaks_by_its_neck_and_its_teachers_text(files):
    student = student_of(files)
    images = torch.randn(2, 3, 32, 32)
    cls, patches = student.embed_image(images)
    tokens = student.neck(student.backbone(images)[-1])
    assert torch.allclose(torch.cat([cls[:, None], patches], 1), tokens, atol=1e-6)
    vectors = student.text_tower.embed(['a ring', 'a star'])
    expected = (student.text_tower.logit_scale * F.normalize(cls, dim=-1) @ vectors.T).softmax(-1)
    assert torch.allclose(student.zero_shot(images, ['a ring', 'a star']), expected, atol=1e-6)


def test_files_pictures_and_arrays_are_resized_cut_and_normalised(files, tmp_path):
    student = student_of(files)
    array = np.random.default_rng(0).integers(0, 256, (48, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / 'image.png')
    crop = torch.from_numpy(array[8:40].copy()).permute(2, 0, 1).float()
    crop = normalised(crop, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])[None]
    expected = student.zero_shot(crop, ['a ring', 'a star'])
    for images in (array, picture, tmp_path / 'image.png', str(tmp_path / 'image.png'), [array]):
        assert torch.allclose(student.zero_shot(images, ['a ring', 'a star']), expected, atol=1e-6)
    assert student.zero_shot([array, picture], ['a ring', 'a star']).shape == (2, 2)


def test_files_have_the_pixels_of_every_pipeline(files, tmp_path):
    """Alpha, 16 bits: what Pillow's conversion alone would clip or show."""
    student, names = student_of(files), ['a ring', 'a star']
    rng = np.random.default_rng(0)
    hidden = Image.fromarray(rng.integers(0, 256, (32, 32, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (32, 32), dtype=np.uint16))
    for name, picture in (('alpha.png', hidden), ('deep.png', deep)):
        picture.save(tmp_path / name)
        expected = student.zero_shot(decode_image(tmp_path / name), names)
        for image in (tmp_path / name, str(tmp_path / name), picture):
            assert torch.allclose(student.zero_shot(image, names), expected, atol=1e-6), name
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'deep.png').read_bytes()[:500])
    with pytest.raises(ValueError, match='cut.png cannot be read'):
        student.zero_shot(tmp_path / 'cut.png', names)


@pytest.mark.parametrize(
    ('images', 'names', 'says'),
    [
        (torch.zeros(3, 32, 32), ['a ring'], r'\(B, 3, H, W\), got \(3, 32, 32\)'),
        ([], ['a ring'], 'there are no images'),
        (np.zeros((32, 32, 3)), ['a ring'], r'expected uint8 \(H, W, 3\), got float64'),
        (torch.zeros(1, 3, 32, 32), 'a ring', "'a ring' is one text: expected a list of names"),
    ],
)
def test_what_is_no_image_or_no_list(files, images, names, says):
    with pytest.raises(ValueError, match=says):
        student_of(files).zero_shot(images, names)


def test_an_image_is_segmented_at_its_own_size(files):
    student = student_of(files)
    array = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    labels = student.segment_by_text(array, ['ring', 'star', 'red, blue'], short_side=40)
    assert labels.shape == (40, 60) and labels.dtype == torch.int64
    pixels = torch.from_numpy(array.copy()).permute(2, 0, 1).float()
    pixels = normalised(pixels, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    embeddings = student.text_tower.class_embeddings(['ring', 'star', 'red, blue'])
    cosines = dense_cosines(student, pixels[None], embeddings, window=32, stride=16)
    assert torch.equal(labels, label_map(cosines, embeddings)[0])
    # by default the short side is one and a half windows
    assert student.segment_by_text(array, ['ring', 'star']).shape == (40, 60)


def test_a_vision_only_teacher_cannot_speak():
    generator = MODELS.build(dict(type='PixelTargetGenerator', patch_size=8))
    with pytest.raises(ValueError, match='a PixelTargetGenerator cannot speak: it has no text tower'):
        generator.zero_shot(torch.zeros(1, 3, 32, 32), ['a ring'])


def test_identity_names_the_file_by_its_sha256(files):
    import hashlib
    from pathlib import Path

    about = teacher_of(files, tokens='kk', clean_cls=False).identity()
    digest = hashlib.sha256(Path(files[2]).read_bytes()).hexdigest()
    assert about == dict(
        type='CLIPTargetGenerator',
        model_name=files[1],
        pretrained=files[2],
        cls='token',
        quick_gelu=False,
        space='joint',
        tokens='kk',
        clean_cls=False,
        sha256=digest,
    )
