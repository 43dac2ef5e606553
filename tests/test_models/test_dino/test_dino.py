import math

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmpretrain.registry import MODELS
from torch import distributed

from mvp_mm.models import DINO
from mvp_mm.models.student import task_of

pytest.importorskip('lightly', reason='DINO needs lightly')
SETTINGS = dict(
    vit=dict(
        model_name='vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2
    ),
    num_prototypes=8,
    head_width=16,
    bottleneck_width=8,
)


def built(**settings):
    torch.manual_seed(0)
    return DINO(**SETTINGS, **settings)


def views():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, 3, size, size, generator=generator) for size in (32, 32, 16)]


def test_loss_is_the_cross_entropy_of_global_views_with_the_others():
    """DINO's equation, one pair of views at a time; the centre is still zero."""
    model = built()
    crops = views()
    with torch.no_grad():
        student = [model.head(model.student(view)) for view in crops]
        teacher = [model.teacher_head(model.teacher(view)) for view in crops[:2]]
        pairs = [
            -((target / 0.04).softmax(-1) * (guess / 0.1).log_softmax(-1)).sum(-1).mean().item()
            for i, target in enumerate(teacher)
            for j, guess in enumerate(student)
            if i != j
        ]
    losses = model.loss(crops)
    assert losses.keys() == {'loss_view'}
    assert losses['loss_view'].item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    losses['loss_view'].backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert model.student.blocks[0].mlp.fc1.weight.grad.any()


def test_koleo_is_the_mean_log_distance_to_the_nearest():
    model = built(koleo_weight=0.5)
    crops = views()
    losses = model.loss(crops)
    with torch.no_grad():
        expected = 0
        for view in crops[:2]:
            tokens = torch.nn.functional.normalize(model.student(view), dim=-1)
            distances = torch.cdist(tokens, tokens).fill_diagonal_(math.inf)
            expected -= 0.5 * distances.min(1).values.log().mean().item()
    assert losses['loss_koleo'].item() == pytest.approx(expected, abs=1e-3)


def test_the_teacher_follows_by_its_momentum():
    # At the beginning of a training: the hub of an earlier test may tell of its end.
    MessageHub.get_instance('test_the_teacher_follows_by_its_momentum')
    model = built(momentum=0.9)
    with torch.no_grad():
        model.student.cls_token.add_(1)
    before = model.teacher.cls_token.clone()
    model.loss(views())
    assert torch.allclose(model.teacher.cls_token, before + 0.1, atol=1e-6)


def test_names_of_the_first_release_still_work():
    with pytest.warns(DeprecationWarning, match='spread_weight is now koleo_weight'):
        model = MODELS.build(dict(SETTINGS, type='DINOTeacher', spread_weight=0.1))
    assert type(model) is DINO is MODELS.get('DINO') and model.koleo_weight == 0.1
    state = model.state_dict()
    old = {}
    for name, value in state.items():
        for new, former in (('student.', 'vit.'), ('teacher.', 'slow_vit.'), ('teacher_head.', 'slow_head.')):
            if name.startswith(new):
                name = former + name.removeprefix(new)
        old[name] = value
    assert not any(name.startswith(('student.', 'teacher')) for name in old)
    built().load_state_dict(old)


def test_what_it_is():
    model = built()
    assert task_of(model) == 'pretraining' and model.batch_coupled is True
    (images,) = model.example_inputs(batch=2)
    assert model(images).shape == (2, 16)
    assert model.teacher_state().keys() == model.teacher.state_dict().keys()


def test_the_student_attends_as_it_learns_fastest():
    """Written out in bf16 on a CPU, where the backward pass of torch's fused kernel is slow; else fused."""
    model = built()
    seen = []
    for name in ('student', 'teacher'):
        attention = getattr(model, name).blocks[0].attn
        attention.register_forward_hook(lambda module, *_, name=name: seen.append((name, module.fused_attn)))
    with torch.autocast('cpu', torch.bfloat16):
        model(views(), mode='loss')
    assert set(seen) == {('student', False), ('teacher', True)}
    seen.clear()
    model(views(), mode='loss')
    assert set(seen) == {('student', True), ('teacher', True)}


def test_a_frozen_last_layer_keeps_up_with_ddp(monkeypatch):
    """DDP waits for a gradient of every parameter, and calls a second step without one an error."""
    for name, value in dict(MASTER_ADDR='127.0.0.1', MASTER_PORT='0', RANK='0', WORLD_SIZE='1').items():
        monkeypatch.setenv(name, value)
    MessageHub.get_instance('test_a_frozen_last_layer').update_info('epoch', 0)
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = built(frozen_epochs=1)
        wrapped = MMDistributedDataParallel(model)
        for _ in range(2):
            wrapped(views(), mode='loss')['loss_view'].backward()
    finally:
        distributed.destroy_process_group()
    assert not model.head.last_layer.weight_v.grad.any()
    assert model.student.blocks[0].mlp.fc1.weight.grad.any()
    model._freeze_last_layer(False)
    model.head(torch.ones(2, 16)).square().sum().backward()
    assert model.head.last_layer.weight_v.grad.any()


def test_targets_are_computed_without_stochastic_depth():
    model = DINO(**(SETTINGS | dict(vit=dict(SETTINGS['vit'], drop_path_rate=0.5)))).train()
    images = views()[0]
    assert model.student.training and torch.equal(model.teacher(images), model.teacher(images))


def test_masks_are_drawn_on_the_cpu():
    """Each try of a block reads the mask, so that a GPU would be waited for hundreds of times."""
    images = torch.zeros(4, 3, 32, 32, device='meta')  # which cannot be read
    mask = built(patch_weight=1.0)._draw_mask(images)
    assert mask.device.type == 'meta' and mask.dtype == torch.bool


@pytest.mark.parametrize('side', [16, 24, 32, 48])
def test_masks_of_small_grids(side):
    model = built(patch_weight=1.0)
    size = model.student.patch_embed.dynamic_feat_size((side, side))
    for _ in range(20):
        mask = model._draw_mask(torch.zeros(4, 3, side, side))
        assert mask.shape == (4, *size) and mask.flatten(1).float().mean(1).max() <= 0.5
        assert (mask.flatten(1).sum(1) == 0).sum() >= 2
