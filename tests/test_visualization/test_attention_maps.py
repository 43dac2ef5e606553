import math

import pytest
import torch

from mvp_mm.models import MVPViT
from mvp_mm.visualization.attention_maps import patch_similarity, roll_out, token_colours, view_student
from mvp_mm.visualization.viewed_model import ViewedModel

ARCH = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)


def student(**kwargs):
    torch.manual_seed(0)
    vit = MVPViT(ARCH, img_size=32, patch_size=8, **kwargs).eval()
    for value in vit.parameters():
        value.data = torch.randn_like(value) * 0.3
    return ViewedModel('a student', vit)


@torch.no_grad()
@pytest.mark.parametrize('layer', [-1, 0, 1])
def test_student(layer):
    model = student(out_type='raw', final_norm=True)
    pixels = torch.randint(256, (1, 3, 32, 48), dtype=torch.uint8)
    view = view_student(model, pixels, layer)
    assert view.grid == view.attention_grid == (4, 6)
    images = (pixels - torch.tensor(model.mean).view(3, 1, 1)) / torch.tensor(model.std).view(3, 1, 1)
    steps = list(model.student.blockwise(images))
    attention, tokens = steps[layer]
    assert torch.allclose(view.attention, attention[0, :, 0, 1:])
    assert torch.allclose(view.patches, tokens[0, 1:])
    rolled = torch.eye(25)
    for mixing, _ in steps[: layer % 3 + 1]:
        rolled = (0.5 * mixing[0].mean(0) + 0.5 * torch.eye(25)) @ rolled
    assert torch.allclose(view.rollout, rolled[0, 1:], atol=1e-6)


class Patches(torch.nn.Module):
    """A student that has nothing but ``encode_image``."""

    img_size, patch_size, embed_dims = (32, 32), 8, 12

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Conv2d(3, 12, 8, 8)

    def encode_image(self, images, mask=None):
        return None, self.project(images).flatten(2).mT


@torch.no_grad()
def test_any_student():
    model = ViewedModel('another', Patches())
    pixels = torch.randint(256, (1, 3, 16, 32), dtype=torch.uint8)
    view = view_student(model, pixels)
    assert view.grid == (2, 4) and view.attention is None
    assert torch.equal(view.patches, model.student.encode_image(model.normalised(pixels))[1][0])
    with pytest.raises(ValueError, match='another shows its last layer only'):
        view_student(model, pixels, layer=0)


def test_no_such_layer():
    with pytest.raises(ValueError, match='a student has no layer 3: it has 3, counted from 0'):
        view_student(student(), torch.zeros(1, 3, 32, 32), layer=3)


@torch.no_grad()
def test_without_cls_there_are_tokens_only():
    model = student(with_cls_token=False, use_rel_pos_bias=False, use_abs_pos_emb=True)
    view = view_student(model, torch.zeros(1, 3, 32, 32))
    assert view.attention is None and view.rollout is None and view.patches.shape == (16, 24)


def test_rollout_by_hand():
    first = torch.tensor([[[[0.2, 0.8], [0.6, 0.4]], [[0.4, 0.6], [1.0, 0.0]]]])  # means: .3 .7, .8 .2
    second = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]])  # means: .5 .5, .5 .5
    low = roll_out(first, None)
    assert torch.allclose(low, torch.tensor([[[0.65, 0.35], [0.4, 0.6]]]))
    both = roll_out(second, low)  # [[.75 .25] [.25 .75]] @ low
    assert torch.allclose(both, torch.tensor([[[0.5875, 0.4125], [0.4625, 0.5375]]]))
    assert torch.allclose(both.sum(-1), torch.ones(1, 2))


def test_similarity():
    patches = torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, -1.0], [-5.0, 0.0]])
    expected = torch.tensor([1.0, 1 / math.sqrt(2), 0.0, -1.0])
    assert torch.allclose(patch_similarity(patches, 0), expected, atol=1e-6)


def test_colours_follow_the_main_directions():
    """Three planted directions of falling strength come out as red, green and blue, in all images alike."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(8, 3, generator=generator)).Q.T
    weights = [torch.rand(40, 3, generator=generator) for _ in range(2)]
    strength = torch.tensor([9.0, 3.0, 1.0])
    colours = token_colours([(part * strength) @ directions + 5 for part in weights])
    assert [part.shape for part in colours] == [(40, 3)] * 2
    for channel in range(3):
        planted, seen = (torch.cat(parts)[:, channel] for parts in (weights, colours))
        correlation = torch.corrcoef(torch.stack([planted, seen]))[0, 1]
        assert correlation.abs() > 0.97, channel
        assert seen.min() == 0 and seen.max() == 1
    again = token_colours([(part * strength) @ directions + 5 for part in weights])
    assert torch.equal(colours[0], again[0])


def test_colours_of_equal_tokens_are_grey():
    (colours,) = token_colours([torch.ones(5, 4)])
    assert torch.equal(colours, torch.full((5, 3), 0.5))
