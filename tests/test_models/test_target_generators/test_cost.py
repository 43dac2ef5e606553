import torch
from mmpretrain.registry import MODELS

from mvp_mm.models import PixelTargetGenerator
from mvp_mm.models.target_generators.cost import cost_of


def test_of_a_clip_by_hand(tiny_clip):
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


def test_of_half_precision_counts_both_copies():
    generator = MODELS.build(
        dict(type='TimmTargetGenerator', model_name='test_vit', pretrained=None, dtype='bfloat16')
    )
    count = sum(parameter.numel() for parameter in generator.teacher.parameters())
    said = cost_of(generator, torch.zeros(1, 3, 160, 160))
    assert f'({6 * count / 1e6:.0f} MB)' in said and 'bfloat16' in said


def test_without_a_network():
    said = cost_of(PixelTargetGenerator(8), torch.zeros(2, 3, 16, 16))
    assert said.startswith('0.0 M parameters (0 MB), 0.00 G multiply-adds')
