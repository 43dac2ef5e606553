import copy
from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS
from test_models.test_rils.tiny_rils import batch_of
from torch.nn import functional as F

from mvp_mm.models import MVPViT, RILSDecoder
from mvp_mm.models.student import Student, student_of, task_of


def losses_of_the_authors(model, images, mask, tokens, detach_texts):
    """Model and losses of the authors' code, in one process, written out."""
    model.logit_scale.data.clamp_(max=4.6052)
    whole = model.backbone(images)[0][:, 1:]
    projection = model.neck.weight.T
    image_embed = F.normalize(whole.mean(1) @ projection, dim=-1)
    text_embed = F.normalize(model.text_encoder.encode(tokens), dim=-1)
    logits = model.logit_scale.exp() * image_embed @ text_embed.T
    labels = torch.arange(len(images))
    contrastive = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    correct = logits.argmax(-1).eq(labels)

    decoded = model.decoder(model.backbone.encode_visible(images, mask), mask)[:, 1:]
    texts = text_embed.detach() if detach_texts else text_embed
    with torch.no_grad():
        teacher = (F.normalize(whole @ projection, dim=-1) @ texts.T / 0.04).softmax(-1)
    student = (F.normalize(decoded @ projection, dim=-1) @ texts.T / 0.1).log_softmax(-1)
    divergence = F.kl_div(student, teacher, reduction='none').sum(-1)
    counted = mask.flatten(1).double() * correct[:, None]
    reconstruction = (divergence * counted).sum() / (counted.sum() + 1e-6)
    return contrastive, 0.5 * reconstruction, 100 * correct.double().mean()


@pytest.mark.slow
@pytest.mark.parametrize('theirs', [False, True], ids=['texts detached', "the authors' way"])
def test_fifty_steps_beside_the_authors_formulas(build, theirs):
    loss = dict(type='LanguageReconstructionLoss', text_gradient=theirs, chunk=7)
    ours = build(reconstruction_loss=loss).double()
    beside = copy.deepcopy(ours)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=2e-3) for model in (ours, beside)]
    seen = []
    for step in range(50):
        images, mask, tokens = batch_of(ours, seed=step % 3)
        found = ours(images.double(), mask=mask, text=tokens, mode='loss')
        found = [found[n] for n in ('loss_contrastive', 'loss_reconstruction', 'retrieval_accuracy')]
        expected = losses_of_the_authors(beside, images.double(), mask, tokens, not theirs)
        assert [one.item() for one in found] == pytest.approx([one.item() for one in expected], abs=1e-8)
        seen.append([one.item() for one in found])
        for optimizer, parts in zip(optimizers, (found, expected), strict=True):
            optimizer.zero_grad()
            (parts[0] + parts[1]).backward()
            optimizer.step()
    assert seen[-1][0] < 0.5 * seen[0][0] and seen[-1][2] > 50
    assert seen[-1][1] > 0  # the reconstruction had images to learn from
    for (name, one), other in zip(ours.named_parameters(), beside.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-7), name


def test_every_parameter_learns(build):
    """DDP runs without ``find_unused_parameters``."""
    for changes in ({}, dict(reconstruction_weight=0)):
        model = build(**changes)
        losses = model(*batch_of(model)[:1], mask=batch_of(model)[1], text=batch_of(model)[2], mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        without = {n for n, value in model.named_parameters() if value.requires_grad and value.grad is None}
        assert without == set()
        assert {n for n, value in model.named_parameters() if not value.requires_grad} == {
            'backbone.pos_embed'
        }


def test_clip_alone_has_no_masked_pass(build, monkeypatch):
    alone, whole = build(reconstruction_weight=0), build()
    alone.load_state_dict({n: value for n, value in whole.state_dict().items() if 'decoder' not in n})
    monkeypatch.setattr(MVPViT, 'encode_visible', None)
    images, mask, tokens = batch_of(alone)
    losses = alone.loss(images, mask, tokens)
    assert (
        losses.keys() == {'loss_contrastive', 'retrieval_accuracy'} == alone.loss(images, None, tokens).keys()
    )
    monkeypatch.undo()
    assert torch.equal(losses['loss_contrastive'], whole.loss(images, mask, tokens)['loss_contrastive'])


def test_initialisation(build):
    torch.manual_seed(1)
    model = build()
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    qkv, patches = model.backbone.layers[0].attn.qkv.weight, model.backbone.patch_embed.projection.weight
    for weight, fans in ((qkv, 48 + 3 * 48), (patches, 48 + 192), (model.decoder.embed.weight, 96)):
        bound = (6 / fans) ** 0.5
        assert 0.95 * bound < weight.abs().max() <= bound
    assert model.neck.weight.std().item() == pytest.approx(48**-0.5, rel=0.1)
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert isinstance(model.decoder, RILSDecoder) and model.decoder.layers[0].attn.num_heads == 4
    assert model.decoder.layers[0].ffn.layers[1].in_features == 96


def test_a_given_backbone_keeps_its_weights(build):
    backbone = build().backbone
    weight = backbone.layers[0].attn.qkv.weight.clone()
    assert torch.equal(build(backbone=backbone).backbone.layers[0].attn.qkv.weight, weight)


def test_it_speaks_and_still_learns(build):
    model = build().eval()
    images = batch_of(model)[0]
    cls, patches = model.embed_image(images)
    assert torch.allclose(cls, patches.mean(1), atol=1e-5) and patches.shape == (8, 16, 24)
    scores = model.zero_shot(images, ['red star', 'blue ring'])
    tokens = model.tokenizer(['red star', 'blue ring'])
    words = F.normalize(model.text_encoder.encode(tokens), dim=-1)
    expected = (F.normalize(cls, dim=-1) @ words.T / 0.07).softmax(-1)
    assert torch.allclose(scores, expected, atol=1e-5)
    labels = model.segment_by_text(
        images[0].clamp(0, 1).permute(1, 2, 0).numpy().astype('uint8'), ['star', 'ring']
    )
    assert labels.shape == (32, 32) and set(labels.unique().tolist()) <= {0, 1}
    assert model.text_tower.templates == ('a {}',)
    assert all(value.requires_grad for value in model.text_encoder.parameters())


def test_what_it_is(build, tmp_path):
    model = build()
    assert isinstance(student_of(model), Student) and student_of(model) is model.backbone
    assert (task_of(model), model.batch_coupled) == ('pretraining', True)
    (images,) = model.example_inputs(2)
    assert model(images)[0].shape == (2, 17, 48)
    # its checkpoint fills a student downstream, at another size too
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'epoch_1.pth')
    settings = dict(arch=model.backbone.arch_settings, patch_size=8, use_rel_pos_bias=False)
    settings |= dict(use_abs_pos_emb=True, layer_scale_init_value=0, out_type='raw', final_norm=True)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'epoch_1.pth'), prefix='backbone.')
    student = MVPViT(img_size=32, init_cfg=init_cfg, **settings)
    student.init_weights()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(student(images)[0], model(images)[0])
    larger = MVPViT(img_size=48, init_cfg=init_cfg, **settings)
    larger.init_weights()
    assert larger.pos_embed.shape == (1, 37, 48) and larger.pos_embed.requires_grad


def test_what_it_refuses(build):
    model = build()
    images, mask, tokens = batch_of(model)
    for arguments, message in (
        ((images, mask), 'sentence for every image, got none: put TokenizeCaption'),
        ((images, mask, tokens[:3]), 'got 3 for 8 images'),
        ((images, None, tokens), 'needs a mask for every image: put RandomMask'),
    ):
        with pytest.raises(ValueError, match=message):
            model.loss(*arguments)
    with pytest.raises(ValueError, match="mode='predict' is none of"):
        model(images, mode='predict')
    with pytest.raises(ValueError, match='reconstruction_weight=-1 is negative'):
        build(reconstruction_weight=-1)
    mask[0, 0] = True
    with pytest.raises(ValueError, match='patches of an image are visible'):
        model.loss(images, mask, tokens)


def test_a_checkpoint_speaks_by_itself(build, text_config, tmp_path):
    """Its student, head and text encoder, without a config; exports of the student need the checkpoint."""
    model = build().eval()
    Path(text_config).unlink()  # which only the training needs
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    file = str(tmp_path / 'epoch_1.pth')
    torch.save(dict(state_dict=model.state_dict(), meta=dict(speech=model.speech())), file)
    student = MODELS.build(dict(type='SpeakingStudent', checkpoint=file))
    images = batch_of(model)[0]
    for found, expected in zip(student.embed_image(images), model.embed_image(images), strict=True):
        assert torch.equal(found, expected)
    names = ['red star', 'blue ring']
    assert torch.allclose(student.zero_shot(images, names), model.zero_shot(images, names), atol=1e-6)
    assert len(student.text_tower.identity) == 64
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith('text_encoder')}
    torch.save(dict(state_dict=kept, meta=dict(speech=model.speech())), tmp_path / 'student.pth')
    alone = MODELS.build(dict(type='SpeakingStudent', checkpoint=str(tmp_path / 'student.pth')))
    with pytest.raises(ValueError, match='in the checkpoint of the training only: give it as teacher'):
        alone.zero_shot(images, names)
    alone = MODELS.build(dict(type='SpeakingStudent', checkpoint=str(tmp_path / 'student.pth'), teacher=file))
    assert torch.allclose(alone.zero_shot(images, names), model.zero_shot(images, names), atol=1e-6)
