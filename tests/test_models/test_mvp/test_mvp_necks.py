import pytest
import torch

from mvp_mm.models import MVPNeck, MVPNecks


def test_heads_are_mvps_own():
    torch.manual_seed(0)
    alone = MVPNeck(6, 4), MVPNeck(6, 3)
    torch.manual_seed(0)
    necks = MVPNecks(6, dict(a=4, b=3))
    tokens = torch.randn(2, 5, 6)
    found = necks(tokens)
    assert list(found) == ['a', 'b']
    assert all(torch.equal(found[name], head(tokens)) for name, head in zip('ab', alone, strict=True))


def test_projects_by_the_head_that_speaks():
    necks = MVPNecks(6, dict(a=4, b=3), standardise='none', speaks='b')
    cls, patches = torch.randn(2, 6), torch.randn(2, 5, 6)
    found = necks.project(cls, patches)
    assert torch.equal(found[0], necks.heads.b(cls)) and torch.equal(found[1], necks.heads.b(patches))
    assert necks.project(None, patches)[0] is None
    assert MVPNecks(6, dict(a=4, b=3)).speaks == 'a'


def test_restores_what_it_projects():
    """μ + σ sqrt(D) f / |f|, of CLS and of patches by their own statistics."""
    necks = MVPNecks(6, dict(a=4, b=3), batches=1)
    targets = torch.randn(2, 6, 4) * torch.tensor([1.0, 2, 3, 4]) + 5
    necks.standardised(dict(a=targets), dict(a=1))
    cls, patches = torch.randn(2, 6), torch.randn(2, 5, 6)
    for tokens, found, part in zip(
        (cls, patches), necks.project(cls, patches), (targets[:, :1], targets[:, 1:]), strict=True
    ):
        z = necks.heads.a(tokens)
        z = 2 * z / z.norm(dim=-1, keepdim=True)
        expected = part.mean((0, 1)) + part.std((0, 1), correction=0) * z
        assert torch.allclose(found, expected, atol=1e-4)


def test_what_auto_means():
    assert not MVPNecks(6, dict(a=4)).standardisers
    assert MVPNecks(6, dict(a=4, b=4)).standardisers.b.method == 'dimensions'
    assert MVPNecks(6, dict(a=4), standardise='phi-s', batches=7).standardisers.a.batches == 7


def test_errors():
    for arguments, match in (
        (dict(out_channels={}), 'teachers by name'),
        (dict(out_channels=4), 'teachers by name'),
        (dict(out_channels=dict(a=4), standardise='white'), "standardise='white' is none of"),
        (dict(out_channels=dict(a=4), speaks='b'), "speaks='b' is none of the teachers a"),
    ):
        with pytest.raises(ValueError, match=match):
            MVPNecks(6, **arguments)
