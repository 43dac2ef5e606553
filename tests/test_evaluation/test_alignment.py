import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchrun_jobs import forked

from mvp_mm.evaluation import Alignment
from mvp_mm.evaluation.alignment import attention_distance, effective_rank, moments
from mvp_mm.models import MVPViT

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


class Run(nn.Module):
    """A pre-training: the student's tokens are its predictions, and a fixed map of the pixels the targets."""

    def __init__(self, with_student=True, with_cls=True):
        super().__init__()
        self.with_cls = with_cls
        torch.manual_seed(0)
        options = dict(img_size=(16, 24), patch_size=8, out_type='raw', final_norm=True)
        if not with_cls:
            options |= dict(with_cls_token=False, use_rel_pos_bias=False, with_mask_token=True)
        vit = MVPViT(ARCH, use_shared_rel_pos_bias=with_cls, **{'use_rel_pos_bias': False, **options}).eval()
        self.backbone = vit if with_student else None
        self.hidden = [vit]
        self.map = torch.randn(192, 16)

    def data_preprocessor(self, batch, training):
        return batch

    def predict(self, images, mask):
        patches = F.unfold(images, 8, stride=8).transpose(1, 2) @ self.map
        targets = torch.cat([patches.mean(1, keepdim=True), patches], 1) if self.with_cls else patches
        return self.hidden[0](images, mask)[-1], targets

    @torch.no_grad()
    def forward(self, inputs, mask, mode):
        assert mode == 'predict'
        return self.predict(inputs, mask)


def data(size=7):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 3, 16, 24, generator=generator)
    return images, torch.rand(size, 2, 3, generator=generator) < 0.4


def evaluated(model, size=7, batch=3):
    samples = [dict(inputs=image, mask=mask) for image, mask in zip(*data(size), strict=True)]
    with torch.no_grad():
        return Alignment(DataLoader(samples, batch)).evaluate(model)


def rank_of(tokens):
    """By numpy's covariance."""
    spectrum = torch.linalg.eigvalsh(torch.cov(tokens.double().T)).clamp(min=0)
    shares = (spectrum / spectrum.sum()).tolist()
    return math.exp(-sum(share * math.log(share) for share in shares if share > 1e-14))


def test_agreement_with_the_teacher():
    """Cosine, constant and excess of each kind of token, written out; ranks beside them."""
    model, (images, mask) = Run(), data()
    found = evaluated(model)
    with torch.no_grad():
        predictions, targets = model.predict(images, mask)
    cosines, units = F.cosine_similarity(predictions, targets, dim=-1), F.normalize(targets, dim=-1)
    masked = torch.cat([torch.zeros(7, 1, dtype=torch.bool), mask.flatten(1)], 1)
    patches = torch.ones(7, 7, dtype=torch.bool)
    patches[:, 0] = False
    for kind, chosen in dict(cls=~patches, visible=patches & ~masked, masked=masked).items():
        best = torch.zeros_like(targets)
        for position in range(7):
            if chosen[:, position].any():
                best[:, position] = units[chosen[:, position], position].mean(0)
        constant = F.cosine_similarity(best[chosen], targets[chosen], dim=-1).mean().item()
        assert found[f'{kind}_cosine'] == pytest.approx(cosines[chosen].mean().item(), abs=1e-6)
        assert found[f'{kind}_constant'] == pytest.approx(constant, abs=1e-6)
        assert found[f'{kind}_excess'] == pytest.approx(cosines[chosen].mean().item() - constant, abs=1e-6)
    cls, tokens = model.backbone.encode_image(images)
    expected = dict(cls_rank=cls, patch_rank=tokens.flatten(0, 1))
    expected |= dict(target_cls_rank=targets[:, 0], target_patch_rank=targets[:, 1:].flatten(0, 1))
    for name, values in expected.items():
        assert 1 < found[name] == pytest.approx(rank_of(values.detach()), rel=1e-4)


def test_attention_distance_of_the_student():
    model, (images, _) = Run(), data()
    found = evaluated(model)
    with torch.no_grad():
        attentions = [attention for attention, _ in model.backbone.blockwise(images)]
    for layer, attention in enumerate(attentions):
        total = count = 0.0
        for head in attention.flatten(0, 1)[:, 1:, 1:]:
            for query in range(6):
                away = [8 * math.dist(divmod(query, 3), divmod(key, 3)) for key in range(6)]
                weights = (head[query] / head[query].sum()).tolist()
                total, count = total + sum(w * d for w, d in zip(weights, away, strict=True)), count + 1
        assert found[f'attention_distance_{layer}'] == pytest.approx(total / count, rel=1e-5)
    assert 'attention_distance_2' not in found


def test_attention_distance_of_known_maps():
    nothing, everywhere = torch.eye(5), torch.full((5, 5), 0.2)
    maps = torch.stack([nothing, everywhere])[:, None]
    mean = (4 + 4 + 4 * math.sqrt(2)) / 4  # to itself 0, along two sides, along the diagonal
    assert attention_distance(maps, (2, 2), 4).tolist() == pytest.approx([0, mean], abs=1e-6)
    to_cls = torch.zeros(1, 1, 5, 5)
    to_cls[..., 0] = 1
    assert attention_distance(to_cls, (2, 2), 4).tolist() == [0]


def test_what_does_not_apply_is_left_out():
    without = evaluated(Run(with_student=False)).keys()
    assert 'cls_excess' in without and 'target_patch_rank' in without
    assert not {'cls_rank', 'patch_rank', 'attention_distance_0'} & without
    alone = nn.Module()  # a student, whose algorithm has other targets than tokens
    alone.backbone, alone.data_preprocessor = Run().backbone, lambda batch, training: batch
    expected = {'cls_rank', 'patch_rank', 'attention_distance_0', 'attention_distance_1'}
    assert evaluated(alone).keys() == expected
    no_cls = evaluated(Run(with_cls=False))
    assert {'visible_excess', 'patch_rank', 'target_patch_rank', 'attention_distance_1'} <= no_cls.keys()
    assert not [name for name in no_cls if 'cls' in name]


def test_a_model_without_any_is_refused():
    Alignment(None).require(Run()), Alignment(None).require(Run(with_student=False))
    with pytest.raises(ValueError, match='Linear has no student: expected encode_image'):
        Alignment(None).require(nn.Linear(1, 1))


def test_images_need_masks():
    loader = DataLoader([dict(inputs=data()[0][0])], 1)
    loader.collate_fn = lambda samples: dict(inputs=samples[0]['inputs'][None], mask=None)
    model = Run()
    model.predict = lambda images, mask: (torch.ones(1, 7, 16),) * 2
    with pytest.raises(ValueError, match='the images have no masks: end the pipeline with BlockwiseMask'):
        Alignment(loader).evaluate(model)


def ranked(tokens):
    return effective_rank(**moments(tokens))


def test_effective_rank_of_known_covariances():
    """A covariance with eigenvalues in the ratio of the squares of ``scales``."""

    def tokens(*scales):
        return torch.cat([torch.diag(torch.tensor(scales)), -torch.diag(torch.tensor(scales))])

    assert ranked(tokens(1.0, 1.0, 1.0, 1.0, 0.0, 0.0)) == pytest.approx(4)
    assert ranked(tokens(3.0, 0.0, 0.0)) == pytest.approx(1)
    assert ranked(tokens(2**0.5, 1.0, 1.0)) == pytest.approx(2**1.5)  # 1.5 bits: 1/2, 1/4, 1/4
    # neither scale nor direction nor a common mean counts, which RankMe would
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    assert ranked(100 * tokens(2**0.5, 1.0, 1.0) @ turn + 1000) == pytest.approx(2**1.5, rel=1e-5)


def test_collapsed_tokens_have_no_rank():
    """Rounding is no direction."""
    one = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    assert ranked(one.expand(100, -1)) == 0
    assert ranked(one * (1 + 1e-7 * torch.rand(100, 64, generator=torch.Generator().manual_seed(1)))) == 0


def of_a_process(size):
    torch.distributed.init_process_group('gloo')
    return evaluated(Run(), size, batch=2)


@pytest.mark.parametrize('size', [7, 5, 2])
def test_two_processes_agree_with_one(size):
    """Of 2 images one process has none."""
    expected = evaluated(Run(), size, batch=2)
    for found in forked(of_a_process, size):
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-10)
