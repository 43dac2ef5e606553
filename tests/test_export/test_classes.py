"""A student of MVP still answers by names where it was exported to."""

from pathlib import Path

import numpy as np
import pytest
import torch

import mvp_mm
from mvp_mm.export import export

ROOT = Path(__file__).parents[2]
PROMPTS = 'red circle|red square,blue star'
NAMES = [['red circle', 'red square'], ['blue star']]


@pytest.fixture(scope='module')
def model():
    return mvp_mm.get_model('mvp_vittiny_scenes', pretrained=True)


@pytest.fixture
def checkpoint(model, tmp_path):
    torch.save(dict(meta=dict(speech=model.speech()), state_dict=model.state_dict()), tmp_path / 'a.pth')
    return str(tmp_path / 'a.pth')


def probabilities(cls_embedding, path):
    """As a program without this package computes them."""
    held = np.load(path)
    cosines = cls_embedding / np.linalg.norm(cls_embedding, axis=-1, keepdims=True) @ held['vectors'].T
    of_classes = [cosines[:, held['owner'] == number].max(1) for number in range(len(held['names']))]
    return torch.from_numpy(held['logit_scale'] * np.stack(of_classes, 1)).softmax(-1)


def test_safetensors_of_this_package(model, checkpoint, tmp_path):
    report = export('safetensors', checkpoint, tmp_path / 'b.safetensors', prompts=PROMPTS)
    assert report.passed and 'mvp_mm.get_model' in str(report) and 'Left out' not in str(report)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    student = mvp_mm.get_model(str(tmp_path / 'b.safetensors'))
    expected = model.zero_shot(images, NAMES, templates=None)
    assert torch.equal(student.zero_shot(images, NAMES, templates=None), expected)
    held = np.load(tmp_path / 'b.classes.npz')
    assert held['names'].tolist() == ['red circle, red square', 'blue star'] and len(held['vectors']) == 3
    with torch.no_grad():
        found = probabilities(model.embed_image(images)[0].numpy(), tmp_path / 'b.classes.npz')
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_at_another_size(model, checkpoint, tmp_path):
    export('safetensors', checkpoint, tmp_path / 'b.safetensors', img_size=(48, 80))
    student = mvp_mm.get_model(str(tmp_path / 'b.safetensors'))
    assert student.img_size == (48, 80)
    images = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for found, expected in zip(student.embed_image(images), model.embed_image(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_has_no_place_for_the_head(checkpoint, tmp_path):
    assert 'Left out, as only the backbone is exported: neck.' in str(
        export('timm', checkpoint, tmp_path / 'b.safetensors')
    )


def test_mistakes(model, checkpoint, tmp_path):
    with pytest.raises(ValueError, match='--prompts goes with safetensors and onnx: timm has no place'):
        export('timm', checkpoint, tmp_path / 'b.safetensors', prompts=PROMPTS)
    (tmp_path / 'b.classes.npz').touch()
    with pytest.raises(ValueError, match='there is already a .*b.classes.npz'):
        export('safetensors', checkpoint, tmp_path / 'b.safetensors', prompts=PROMPTS)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'bare.pth')
    for prompts, source, told in (
        (PROMPTS, tmp_path / 'bare.pth', 'bare.pth cannot speak: it does not tell of a head and a teacher'),
        ('red,,blue', checkpoint, 'class 1 has an empty name'),
    ):
        with pytest.raises(ValueError, match=told):
            export('safetensors', str(source), tmp_path / 'c.safetensors', prompts=prompts)
        assert not list(tmp_path.glob('c.*'))


@pytest.mark.slow
def test_onnx_at_any_size(model, checkpoint, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    report = export('onnx', checkpoint, tmp_path / 'b.onnx', prompts=PROMPTS)
    assert {size for size, *_ in report.rows} == {(64, 64), (128, 64), (8, 72)}
    session = onnxruntime.InferenceSession(str(tmp_path / 'b.onnx'))
    about = session.get_modelmeta().custom_metadata_map
    assert (about['patch_size'], about['max_patches']) == ('8', '64')
    names = ['cls_embedding', 'patch_embeddings']
    for batch, size in ((1, (64, 64)), (3, (40, 104))):
        images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))
        found = session.run(names, {'images': images.numpy()})
        with torch.no_grad():
            for ours, theirs in zip(model.embed_image(images), found, strict=True):
                torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=0, atol=1e-5)
        torch.testing.assert_close(
            probabilities(found[0], tmp_path / 'b.classes.npz'),
            model.zero_shot(images, NAMES, templates=None),
            rtol=0,
            atol=1e-4,
        )
