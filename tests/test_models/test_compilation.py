import copy
from contextlib import nullcontext

import pytest
import torch

from mvp_mm.models import MVPViT, TimmTargetGenerator, compilation

ON_CPU = torch.zeros(1)


def on_cuda(monkeypatch, able=True):
    monkeypatch.setattr(compilation, 'can_compile', lambda: able)
    return torch.zeros(1).as_subclass(type('OnCuda', (torch.Tensor,), {'is_cuda': True}))


@pytest.mark.parametrize('training', [True, False])
def test_the_choice_is_taken_at_its_word(training):
    assert compilation.compiles(True, ON_CPU, training)
    assert not compilation.compiles(False, ON_CPU, training)
    assert not compilation.compiles('auto', ON_CPU, training)


def test_auto_is_cuda_while_training(monkeypatch):
    tensor = on_cuda(monkeypatch)
    assert compilation.compiles('auto', tensor, training=True)
    assert not compilation.compiles('auto', tensor, training=False)
    monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: True)
    assert not compilation.compiles('auto', tensor, training=True)


def test_auto_needs_a_compiler(monkeypatch):
    assert not compilation.compiles('auto', on_cuda(monkeypatch, able=False), training=True)


def test_what_is_missing_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(compilation, 'print_log', lambda message, *args, **kwargs: told.append(message))
    monkeypatch.setattr(compilation, 'has_triton', lambda: True)
    monkeypatch.setattr(compilation.shutil, 'which', lambda name: None)
    compilation.can_compile.cache_clear()
    assert not compilation.can_compile() and not compilation.can_compile()
    compilation.can_compile.cache_clear()
    assert len(told) == 1 and 'C compiler' in told[0]


def test_other_choices_are_refused():
    with pytest.raises(ValueError, match="compile_blocks='yes' is none of"):
        MVPViT('tiny', compile_blocks='yes')
    with pytest.raises(ValueError, match='compile_blocks=2'):
        TimmTargetGenerator('test_vit', pretrained=None, compile_blocks=2)


class TestTeacher:
    def made(self, **kwargs):
        return TimmTargetGenerator('test_vit', pretrained=None, patch_size=16, **kwargs)

    @pytest.mark.slow
    def test_a_compiled_teacher_shares_its_weights(self):
        teacher = self.made(compile_blocks=True)
        twin = teacher._compiled_teacher(torch.float32)
        assert twin is teacher._compiled_teacher(torch.float32) is not teacher.teacher
        pairs = zip(twin.parameters(), teacher.teacher.parameters(), strict=True)
        assert all(one is other for one, other in pairs)
        assert copy.deepcopy(teacher)._compiled_teachers == {}  # bound to the other object
        assert len(teacher._compiled_teachers) == 1

    @pytest.fixture
    def on_meta(self, monkeypatch):
        """The one other device that every machine has; autocast does not know it."""
        monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())

    def test_it_follows_the_images(self, on_meta):
        """FSDP moves parameters it knows, and calls no ``.to()``."""
        teacher = self.made(dtype='float32')
        assert teacher(torch.zeros(1, 3, 32, 32, device='meta')).device.type == 'meta'
        assert {value.device.type for value in teacher.teacher.parameters()} == {'meta'}
        assert teacher.student_mean.device.type == 'meta'

    def test_so_does_what_is_looked_at(self, on_meta):
        teacher = self.made()
        teacher.cls_attention(torch.zeros(1, 3, 160, 160, device='meta'))
        assert {value.device.type for value in teacher.teacher.parameters()} == {'meta'}


@pytest.mark.slow
def test_a_compiled_teacher_is_the_same():
    arguments = dict(model_name='test_vit', pretrained=None, patch_size=16, model_args=dict(depth=2))
    plain, compiled = (TimmTargetGenerator(**arguments, compile_blocks=flag) for flag in (False, True))
    images = torch.randn(1, 3, 160, 160)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert torch.allclose(plain(images), compiled(images), atol=1e-5)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] >= 1


def test_a_function_is_compiled_for_each_shape():
    """Not for any shape from the second on; and DDP's buckets do not cut it."""

    def doubled(tensor):
        return tensor * 2

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    function = compilation.compiled(doubled)
    for length in (5, 7, 9, 5, 7):
        assert torch.equal(function(torch.ones(length)), torch.full((length,), 2.0))
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 3
    assert torch._dynamo.utils.get_optimize_ddp_mode() == 'no_optimization'
