import copy
from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS

from mvp_mm.models import PixelTargetGenerator, TargetGenerators
from mvp_mm.models.target_generators import target_generators
from mvp_mm.models.target_generators.target_generators import cost_of

CROPS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def clip(tiny_clip):
    return dict(type='CLIPTargetGenerator', model_name=tiny_clip('several'), pretrained=None)


TIMM = dict(type='TimmTargetGenerator', model_name='test_vit', pretrained=None)  # patch 16, 160 pixels
PIXELS = dict(type='PixelTargetGenerator')


def build(teachers, **options):
    options = dict(patch_size=8) | options
    return MODELS.build(dict(type='TargetGenerators', teachers=copy.deepcopy(teachers), **options))


def test_each_sees_the_crop_as_it_does_alone(clip):
    several = build(dict(clip=clip, timm=TIMM, pixels=PIXELS))
    found = several(CROPS)
    assert list(found) == ['clip', 'timm', 'pixels']
    for name, config in dict(clip=clip, timm=TIMM, pixels=PIXELS).items():
        alone = MODELS.build(dict(config, patch_size=8))
        assert torch.equal(found[name], alone(CROPS)), name
    assert several.out_channels == dict(clip=24, timm=64, pixels=192)
    assert several.extra_tokens == dict(clip=1, timm=1, pixels=1) and several.num_extra_tokens == 1
    assert not several.state_dict() and not list(several.parameters())
    assert (several.patch_size, several.image_size) == (8, (32, 32))
    assert torch.equal(several.image_mean, several.teachers.clip.student_mean)


def test_defaults_hold_where_a_teacher_gives_none(clip):
    several = build(dict(clip=dict(clip, dtype='float32'), timm=TIMM), dtype='bfloat16')
    assert [found.dtype for found in several(CROPS).values()] == [torch.float32, torch.bfloat16]


def test_weights_are_shares_of_those_in_a_step(clip):
    several = build(dict(clip=clip, timm=TIMM, pixels=PIXELS), weights=dict(timm=2, pixels=0.5))
    assert several.weights == dict(clip=1.0, timm=2.0, pixels=0.5)
    assert several.shares(['clip', 'timm']) == dict(clip=1 / 3, timm=2 / 3)


def test_dropping_is_drawn_by_step(clip):
    """One always stays; the share is the one asked for; the random state of the training is not touched."""
    several = build(dict(a=PIXELS, b=PIXELS, c=PIXELS), drop=0.4, seed=3).train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    images = CROPS[:1, :, :8, :8]
    drawn = [tuple(several(images)) for _ in range(400)]
    assert torch.equal(torch.get_rng_state(), before) and min(map(len, drawn)) == 1
    # 0.6 of three, and one more in the 0.4 ** 3 of the steps that would have none
    assert sum(map(len, drawn)) / 400 == pytest.approx(3 * 0.6 + 0.4**3, abs=0.1)
    resumed = build(dict(a=PIXELS, b=PIXELS, c=PIXELS), drop=0.4, seed=3).train()
    for _ in range(150):
        resumed(images)
    half = build(dict(a=PIXELS, b=PIXELS, c=PIXELS), drop=0.4, seed=3).train()
    half.load_state_dict(resumed.state_dict())
    assert [tuple(half(images)) for _ in range(250)] == drawn[150:]
    assert tuple(several.eval()(images)) == ('a', 'b', 'c') and several.counter.count == 400
    other = build(dict(a=PIXELS, b=PIXELS, c=PIXELS), drop=0.4, seed=4).train()
    assert [tuple(other(images)) for _ in range(20)] != drawn[:20]


def test_tells_the_cost_once(clip, monkeypatch):
    """A line for each teacher, with the figures of a network counted by hand."""
    said = []
    monkeypatch.setattr(target_generators, 'print_log', lambda text, *args, **kwargs: said.append(text))
    several = build(dict(clip=clip, pixels=PIXELS))
    several.eval()(CROPS)
    assert not said
    for _ in range(2):
        several.train()(CROPS)
    assert [line.split(':')[0] for line in said] == ['Teacher clip', 'Teacher pixels']
    assert 'targets 17 x 24 float32, 0.0 MB a batch of 2' in said[0]


def test_speaks_through_the_one_with_text():
    place = Path(__file__).parents[3] / 'configs/teachers/clip_vittiny_scenes.json'
    weights = str(place.with_suffix('.safetensors'))
    clip = dict(type='CLIPTargetGenerator', model_name=str(place), pretrained=weights)
    several = build(dict(timm=TIMM, clip=clip))
    assert several.speaks == 'clip' and several.text_tower is several.teachers.clip.text_tower
    assert several.image_size == (64, 64)
    assert torch.equal(several.embed_image(CROPS)[1], several.teachers.clip(CROPS)[:, 1:])
    told = several.identity()
    assert told['speaks'] == 'clip' and told['teachers']['clip'] == several.teachers.clip.identity()
    assert told['sha256'] == several.text_tower.identity == told['teachers']['clip']['sha256']
    assert told['teachers']['timm']['type'] == 'TimmTargetGenerator'
    loaded = TargetGenerators.load_text_tower(dict(told, speaks=None))  # as a config, which does not say
    texts = ['a red circle', 'a blue square']
    assert torch.equal(loaded.embed(texts), several.text_tower.embed(texts))


def test_those_without_text_say_so():
    several = build(dict(timm=TIMM, pixels=PIXELS))
    for ask in (
        lambda: several.text_tower,
        lambda: several.embed_image(CROPS),
        lambda: TargetGenerators.load_text_tower(several.identity()),
    ):
        with pytest.raises(ValueError, match=r'none has a text tower.*timm, a TimmTargetGenerator, pixels'):
            ask()


def test_a_clip_of_hidden_tokens_says_why(clip):
    with pytest.raises(ValueError, match="space='hidden'"):
        _ = build(dict(clip=dict(clip, space='hidden'), timm=TIMM)).text_tower
    assert build(dict(hidden=dict(clip, space='hidden'), clip=clip)).speaks == 'clip'


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        (dict(teachers={}), 'teachers by name'),
        (dict(teachers=[PIXELS]), 'teachers by name'),
        (dict(teachers={'a.b': PIXELS}), "'a.b' cannot name a teacher"),
        (dict(teachers=dict(keys=PIXELS)), "'keys' cannot name a teacher"),
        (dict(teachers=dict(loss=PIXELS)), "'loss' cannot name a teacher"),
        (dict(teachers=dict(a=PIXELS), weights=dict(b=1)), "no teacher is called 'b'; there are: a"),
        (dict(teachers=dict(a=PIXELS), speaks='b'), "no teacher is called 'b'"),
        (dict(teachers=dict(a=PIXELS), weights=dict(a=0)), 'above 0'),
        (dict(teachers=dict(a=PIXELS), drop=1), 'below 1'),
        (dict(teachers=dict(a=PIXELS, b=dict(PIXELS, patch_size=16))), 'patch_size of b is 16, not 8'),
        (dict(teachers=dict(a=PIXELS, b=dict(PIXELS, student_std=[1, 1, 1]))), 'student_std of b'),
    ],
)
def test_errors(options, match):
    with pytest.raises(ValueError, match=match) as error:
        build(**options)
    assert '\n' not in str(error.value)


def test_modules_are_taken_as_they_are():
    pixels = PixelTargetGenerator(8)
    assert TargetGenerators(dict(a=pixels)).teachers['a'] is pixels


def test_cost_of_a_clip_by_hand(tiny_clip):
    config = tiny_clip('cost', width=256, layers=8, head_width=64)
    generator = MODELS.build(
        dict(
            type='CLIPTargetGenerator', model_name=config, pretrained=None, patch_size=8, compile_blocks=True
        )
    )
    generator.train()
    said = cost_of(generator, torch.zeros(100, 3, 32, 32))
    width, tokens = 256, 17
    block = 12 * width**2 + 13 * width  # attention 4, MLP 8, biases 9, norms 4
    parameters = 8 * block + 3 * 64 * width + (tokens + 1 + 4) * width + width * 24
    products = (
        8 * (12 * tokens * width**2 + 2 * tokens**2 * width) + 16 * 3 * 64 * width + tokens * width * 24
    )
    assert said == (
        f'{parameters / 1e6:.1f} M parameters ({4 * parameters / 1e6:.0f} MB), {products / 1e9:.2f} G '
        f'multiply-adds an image; targets 17 x 24 float32, {17 * 24 * 4 * 100 / 1e6:.1f} MB a batch of 100'
    )
    assert generator.compile_blocks is True and torch.backends.mha.get_fastpath_enabled()


def test_cost_of_half_precision_counts_both_copies():
    generator = MODELS.build(
        dict(type='TimmTargetGenerator', model_name='test_vit', pretrained=None, dtype='bfloat16')
    )
    count = sum(parameter.numel() for parameter in generator.teacher.parameters())
    said = cost_of(generator, torch.zeros(1, 3, 160, 160))
    assert f'({6 * count / 1e6:.0f} MB)' in said and 'bfloat16' in said


def test_cost_without_a_network():
    said = cost_of(PixelTargetGenerator(8), torch.zeros(2, 3, 16, 16))
    assert said.startswith('0.0 M parameters (0 MB), 0.00 G multiply-adds')
