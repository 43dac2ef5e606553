"""``mvp-mm segment`` by names: pictures without any fine-tuning."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mvp_mm
from mvp_mm.console import segmentation
from mvp_mm.datasets import UnreadableImageError
from mvp_mm.visualization import class_colours
from mvp_mm_command import mvp_mm_parser

ROOT = Path(__file__).parents[2]
NAME = 'mvp_vittiny_scenes'


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.png')
    return tmp_path / 'photo.png'


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: image, labels, classes and colours."""
    seen = []
    original = segmentation.draw_overlay
    monkeypatch.setattr(
        segmentation, 'draw_overlay', lambda *given: (seen.append(given), original(*given))[1]
    )
    return seen


def test_the_same_from_a_name_and_from_a_checkpoint(photo, drawn, tmp_path):
    model = mvp_mm.get_model(NAME, pretrained=True)
    torch.save(dict(meta=dict(speech=model.speech()), state_dict=model.state_dict()), tmp_path / 'a.pth')
    text, names = 'red circle|red square, blue star', [['red circle', 'red square'], ['blue star']]
    command = ['segment', str(photo), '--prompts', text, '--model', NAME, '--out', str(tmp_path / 'by_name')]
    arguments = vars(mvp_mm_parser().parse_args(command))
    arguments.pop('run')(**arguments)
    checkpoint = str(tmp_path / 'a.pth')
    mvp_mm.segment([photo], prompts=names, checkpoint=checkpoint, out=tmp_path / 'by_file', device='cpu')
    expected = model.segment_by_text(photo, names)
    mvp_mm.segment(str(photo), prompts=names, checkpoint=NAME, out=tmp_path / 'by_published', device='cpu')
    for image, labels, classes, palette, opacity in drawn:
        assert image.shape == (40, 70, 3) and np.array_equal(labels, expected.numpy())
        assert (classes, palette, opacity) == (['red circle', 'blue star'], class_colours(2), 0.55)
    pictures = [(tmp_path / folder / 'photo.png').read_bytes() for folder in ('by_name', 'by_file')]
    assert len(drawn) == 3 and pictures[0] == pictures[1]


def test_the_classes_of_a_dataset(photo, drawn, tmp_path):
    """In its colours, and without its background, which has no look of its own."""
    mvp_mm.segment([photo], prompts='scenes', model=NAME, out=tmp_path / 'out')
    ((_, labels, classes, palette, _),) = drawn
    assert classes[0] == 'circle' and len(classes) == 8 and palette == class_colours(9, 'scenes')[1:]
    assert labels.max() < 8
    assert segmentation._by_names('circle,background', None, NAME, None, 'cpu')[1] == ['circle', 'background']


def test_a_config_is_read_once(photo, tmp_path, monkeypatch):
    read = []
    original = mvp_mm.engine.config.Config.fromfile
    config = str(ROOT / 'configs/upernet/vittiny_camvid.py')
    torch.save(dict(state_dict=mvp_mm.get_model('upernet_vittiny_camvid').state_dict()), tmp_path / 'a.pth')

    def fromfile(path, *given, **options):
        read.append(str(path)) if str(path).endswith('vittiny_camvid.py') else None
        return original(path, *given, **options)

    monkeypatch.setattr('mmengine.config.Config.fromfile', fromfile)
    mvp_mm.segment([photo], config=config, checkpoint=str(tmp_path / 'a.pth'), out=tmp_path / 'out')
    assert len(read) == 1


def test_mistakes(photo, tmp_path):
    for options, told in (
        (dict(), 'give --config and --checkpoint of a segmentation model, or --prompts'),
        (dict(config='c.py', checkpoint='a.pth', model=NAME), 'give --config and --checkpoint'),
        (dict(prompts='sky', config='c.py', checkpoint='a.pth'), '--config has its own: give one of them'),
        (dict(prompts='sky'), 'needs --checkpoint FILE or --model NAME, one of them'),
        (dict(prompts='', model=NAME), 'class 0 has an empty name'),
        (dict(prompts=[], model=NAME), 'there are no classes'),
        (dict(prompts='red,Red', model=NAME), "'Red' names class 0 and class 1"),
        (dict(prompts='sky', model=NAME), "'sky'"),
        (
            dict(prompts='red', model='teachers_clip_vittiny_scenes'),
            'teachers_clip_.* cannot speak: it is no',
        ),
    ):
        with pytest.raises(ValueError, match=told):
            mvp_mm.segment([photo], out=tmp_path / 'out', **options)
    assert not (tmp_path / 'out').exists()


def test_a_damaged_image_does_not_end_the_others(photo, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in 'ac':
        Image.open(photo).save(folder / f'{name}.jpg')
    content = (folder / 'a.jpg').read_bytes()
    (folder / 'b.jpg').write_bytes(content[: len(content) // 2])
    says = r'^2 of 3 images segmented, in .*out; .*b.jpg cannot be read .*truncated'
    with pytest.raises(UnreadableImageError, match=says):
        mvp_mm.segment([folder], prompts='circle,star', model=NAME, out=tmp_path / 'out', device='cpu')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.png', 'c.png']
