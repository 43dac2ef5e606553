import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional as F

from mvp_mm.models import PromptClassifier
from mvp_mm.models.speaking.speaks import Speaks

NAMES = ['red circle', 'blue star, big star', 'circle', 'star', 'big circle']


class Speaker(Speaks, nn.Module):
    """Images of 4 x 4 pixels, one layer."""

    image_size, patch_size = (4, 4), 4

    def __init__(self, tower=None):
        super().__init__()
        self.layer, self.tower = nn.Linear(48, 32), tower
        self.register_buffer('image_mean', torch.full((3,), 100.0))
        self.register_buffer('image_std', torch.full((3,), 50.0))

    @property
    def text_tower(self):
        if self.tower is None:
            raise ValueError('it cannot speak: it has no text tower')
        return self.tower

    def embed_image(self, images):
        tokens = self.layer(images.flatten(1))
        return tokens, tokens[:, None]


def model(tower, kind='CoOp', classes='base', **prompts):
    torch.manual_seed(0)
    options = dict(type=f'mmpretrain.{kind}', init='a photo', closing='') | prompts
    return PromptClassifier(Speaker(tower), options, NAMES, classes)


def samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


def test_the_loss_is_the_cross_entropy_of_scaled_cosines(tower):
    classifier, images = model(tower), torch.randn(4, 3, 4, 4)
    features = F.normalize(classifier.speaker.layer(images.flatten(1)), dim=-1)
    texts = [
        F.normalize(row, dim=-1)
        for row in classifier.prompts(['red circle', 'blue star', 'big star', 'circle'])
    ]
    cosines = torch.stack([features @ text for text in texts], dim=1)
    logits = 20 * torch.stack([cosines[:, 0], cosines[:, 1:3].max(1).values, cosines[:, 3]], dim=1)
    labels = torch.tensor([0, 1, 2, 1])
    losses = classifier(images, samples(labels.tolist()), mode='loss')
    torch.testing.assert_close(losses['loss'], F.cross_entropy(logits, labels), rtol=0, atol=1e-5)
    assert losses['accuracy'].item() == 100 * (logits.argmax(1) == labels).float().mean()
    losses['loss'].backward()
    assert (
        [name for name, _ in classifier.named_parameters()]
        == ['prompts.context']
        == list(classifier.state_dict())
    )
    assert classifier.prompts.context.grad.abs().sum() > 0
    assert all(value.grad is None and not value.requires_grad for value in classifier.speaker.parameters())


def test_conditional_prompts_give_each_image_its_own_logits(tower):
    classifier, images = model(tower, 'CoCoOp'), torch.randn(3, 3, 4, 4)
    together = classifier.predict(images)
    for number in range(3):
        (alone,) = classifier.predict(images[number : number + 1])
        torch.testing.assert_close(together[number].pred_score, alone.pred_score, rtol=0, atol=1e-6)
    labels = samples([0, 1, 2])
    classifier.loss(images, labels)['loss'].backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_predictions_are_of_all_classes_and_follow_the_prompts(tower):
    classifier, images = model(tower), torch.randn(4, 3, 4, 4)
    given = samples([0, 4, 3, 1])
    found = classifier.predict(images, given)
    assert found is given and all(sample.pred_score.shape == (5,) for sample in found)
    features = classifier(images)
    logits = classifier.logits(features, classifier.class_embeddings(range(5)))
    scores = torch.stack([sample.pred_score for sample in found])
    torch.testing.assert_close(scores, logits.softmax(1).detach())
    metric = Accuracy(topk=(1,))
    metric.process(None, [sample.to_dict() for sample in found])
    right = (logits.argmax(1) == torch.tensor([0, 4, 3, 1])).float().mean()
    assert metric.compute_metrics(metric.results)['top1'] == 100 * right
    optimizer = torch.optim.SGD(classifier.parameters(), lr=1.0)
    classifier.loss(images, samples([0, 1, 2, 1]))['loss'].backward()
    optimizer.step()
    changed = torch.stack([sample.pred_score for sample in classifier.predict(images)])
    logits = classifier.logits(features, classifier.class_embeddings(range(5)))
    torch.testing.assert_close(changed, logits.softmax(1).detach())
    assert (changed - scores).abs().max() > 1e-4


def test_embeddings_in_place_of_images(tower):
    classifier, images = model(tower), torch.randn(4, 3, 4, 4)
    torch.testing.assert_close(classifier(3 * classifier(images)), classifier(images))


def test_images_are_normalised_by_the_speakers_statistics(tower):
    classifier = model(tower)
    image = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
    batch = default_collate([dict(inputs=image, data_samples=DataSample().set_gt_label(1))])
    found = classifier.data_preprocessor(batch)
    assert torch.equal(found['inputs'][0], (image.flip(0).float() - 100) / 50)  # BGR by default
    rgb = PromptClassifier(Speaker(tower), classifier.prompts, NAMES, data_preprocessor=dict(to_rgb=False))
    assert torch.equal(rgb.data_preprocessor(batch)['inputs'][0], (image.float() - 100) / 50)


def test_frozen_parts_follow_but_do_not_train(tower):
    classifier = model(tower).train()
    assert not classifier.speaker.training and not classifier.text_tower.encoder.training
    assert classifier.prompts.training
    classifier.to('meta')
    assert (
        classifier.speaker.layer.weight.is_meta and classifier.text_tower.encoder.positional_embedding.is_meta
    )


def test_classes_of_training(tower):
    assert model(tower).trained == range(3) and model(tower, classes='new').trained == range(3, 5)
    new = model(tower, classes='new')
    images = torch.randn(2, 3, 4, 4)
    (with_new,) = (new.loss(images, samples([3, 4]))['loss'],)
    features = new(images)
    logits = new.logits(features, new.class_embeddings(range(3, 5)))
    torch.testing.assert_close(with_new, F.cross_entropy(logits, torch.tensor([0, 1])))
    with pytest.raises(ValueError, match=r'labels 0 to 3, but training tells the classes 0 to 2 apart'):
        model(tower).loss(images, samples([0, 3]))


def test_bad_input(tower):
    with pytest.raises(ValueError, match='cannot speak: it has no text tower'):
        model(None)
    with pytest.raises(ValueError, match='a Linear cannot speak: expected a model with a text tower'):
        PromptClassifier(nn.Linear(2, 2), dict(type='mmpretrain.CoOp'), NAMES)
    for names, message in (
        ([], 'there are no classes'),
        (['star', 'star'], 'name it once'),
        (['star', ''], 'empty name'),
    ):
        with pytest.raises(ValueError, match=message):
            PromptClassifier(Speaker(tower), dict(type='mmpretrain.CoOp', closing=''), names)
    with pytest.raises(ValueError, match='leaves no room for a name'):
        model(tower, init=None, num_context=16)
    with pytest.raises(ValueError, match="expected 'tensor', 'predict', or 'loss'"):
        model(tower)(torch.randn(1, 3, 4, 4), mode='loss')
    assert MODELS.get('PromptClassifier') is PromptClassifier


def test_a_validation_asks_the_prompts_of_now(tower):
    """A fused optimiser changes parameters without telling torch."""
    classifier, images = model(tower, classes='all'), torch.randn(2, 3, 4, 4)
    classifier.eval()
    before = classifier.predict(images)[0].pred_score
    classifier.train()
    classifier.prompts.context.data.add_(torch.randn_like(classifier.prompts.context))
    classifier.eval()
    after = classifier.predict(images)[0].pred_score
    assert (after - before).abs().max() > 1e-4


def test_class_specific_prompts_of_some_classes_are_refused(tower):
    with pytest.raises(ValueError, match="class_specific=True with classes='base': .* give classes='all'"):
        model(tower, init=None, num_context=2, class_specific=True)
