import open_clip
import pytest
import torch
from torch.nn import functional as F

from mvp_mm.models import CoOp, TextEncoder
from mvp_mm.models.speaking.text_tower import TextTower
from mvp_mm.text.tokenize import WordTokenizer

from .conftest import CONTEXT, WORDS, small_clip

NAMES = ('red circle', 'star', 'big blue star')


def by_hand(clip, tokens_of, learner, names, position):
    """Prompts concatenated one by one and padded to the whole context, as the authors' code does."""
    table, rows = clip.token_embedding.weight, []
    ends = []
    for number, name in enumerate(names):
        context = learner.context if learner.context.ndim == 2 else learner.context[number]
        words = table[tokens_of(name)]
        count = len(context)
        before, after = {
            'end': (context, context[:0]),
            'middle': (context[: count // 2], context[count // 2 :]),
            'front': (context[:0], context),
        }[position]
        parts = [table[[1]], before, words, after, table[tokens_of(' .')], table[[-1]]]
        row = torch.cat(parts)
        ends.append(len(row) - 1)
        rows.append(torch.cat([row, table[[0]].expand(clip.context_length - len(row), -1)]))
    hidden = torch.stack(rows) + clip.positional_embedding
    hidden = clip.ln_final(clip.transformer(hidden, attn_mask=clip.attn_mask))
    embedded = hidden[torch.arange(len(names)), ends] @ clip.text_projection
    return F.normalize(embedded, dim=-1)


@pytest.mark.parametrize('position', ['end', 'middle', 'front'])
@pytest.mark.parametrize('class_specific', [False, True])
def test_prompts_are_those_put_together_by_hand(clip, tower, position, class_specific):
    torch.manual_seed(1)
    learner = CoOp(tower, 3, None, position, class_specific, NAMES, closing=' .')
    assert learner.context.shape == ((3, 3, 16) if class_specific else (3, 16))

    def tokens_of(text):
        return [tower.tokenizer.ids[word] for word in text.split()]

    expected = by_hand(clip, tokens_of, learner, NAMES, position)
    found = learner(NAMES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), learner.context)
    (wanted,) = torch.autograd.grad(expected[:, 0].sum(), learner.context)
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-6)
    assert gradient.abs().sum() > 0


def test_vectors_from_words_are_their_token_embeddings(clip, tower):
    learner = CoOp(tower, init='a photo of a', closing='')
    ids = [tower.tokenizer.ids[word] for word in ('a', 'photo', 'of', 'a')]
    assert torch.equal(learner.context, clip.token_embedding.weight[ids]) and learner.num_context == 4
    torch.testing.assert_close(
        learner(NAMES), tower.embed([f'a photo of a {name}' for name in NAMES]), rtol=0, atol=1e-6
    )
    specific = CoOp(tower, init='a photo', class_specific=True, class_names=NAMES, closing='')
    assert torch.equal(specific.context, clip.token_embedding.weight[ids[:2]].expand(3, 2, 16))


def test_vectors_are_normal_and_as_many_as_the_papers():
    clip = small_clip(width=256, context_length=40)
    tower = TextTower(TextEncoder(clip), open_clip.SimpleTokenizer(context_length=40), 20.0, None, 'small')
    torch.manual_seed(0)
    context = CoOp(tower).context
    assert context.shape == (16, 256)
    assert context.mean().abs() < 1e-3 and context.std().item() == pytest.approx(0.02, rel=0.05)


def test_only_the_context_learns(tower):
    learner = CoOp(tower, 3, closing='')
    assert [name for name, _ in learner.named_parameters()] == ['context'] == list(learner.state_dict())
    learner(NAMES).sum().backward()
    assert all(parameter.grad is None for parameter in tower.encoder.parameters())


def test_underscores_are_spaces_and_closings_follow(tower):
    learner = CoOp(tower, 3, closing=' .')
    assert torch.equal(learner(['red_circle']), learner(['red circle']))
    assert not torch.equal(
        learner(['red circle']), CoOp.forward(_without_closing(learner, tower), ['red circle'])
    )


def _without_closing(learner, tower):
    other = CoOp(tower, 3, closing='')
    other.load_state_dict(learner.state_dict())
    return other


def test_attention_to_all_tokens_sees_the_padding():
    """Without a causal mask the whole context is encoded, as in training."""
    clip = small_clip(no_causal_mask=True)
    tower = TextTower(TextEncoder(clip), WordTokenizer(WORDS, CONTEXT), 20.0, None, 'small')
    learner = CoOp(tower, init='a photo', closing='')
    torch.testing.assert_close(
        learner(NAMES), tower.embed([f'a photo {name}' for name in NAMES]), rtol=0, atol=1e-6
    )


def test_bpe_names_as_the_sentence():
    """CLIP's own tokens: the words of a sentence, then a name and a dot."""
    clip = open_clip.CLIP(
        8,
        dict(image_size=16, patch_size=8, width=16, layers=1, head_width=8),
        dict(context_length=20, vocab_size=49408, width=8, heads=2, layers=1),
    ).eval()
    tower = TextTower(TextEncoder(clip), open_clip.SimpleTokenizer(context_length=20), 20.0, None, 'bpe')
    learner = CoOp(tower, init='a photo of a')
    names = ['golden retriever', "potter's wheel"]
    expected = F.normalize(
        clip.encode_text(tower.tokenizer([f'a photo of a {name}.' for name in names])), dim=-1
    )
    torch.testing.assert_close(learner(names), expected, rtol=0, atol=1e-6)
    long = ' '.join(['retriever'] * 30)  # which the tokenizer cuts off without a word
    with pytest.raises(
        ValueError, match=r'the class name .* is too long: the context of bpe \(20\) has room for 13'
    ):
        learner([long])


def test_bad_input(tower):
    with pytest.raises(
        ValueError, match=r'num_context=10 leaves no room for a name: the context of small has 12'
    ):
        CoOp(tower, 10, closing='')(NAMES)
    with pytest.raises(
        ValueError, match=r"'big blue star' is too long: the context of small \(12\) has room for 2"
    ):
        CoOp(tower, 8, closing='')(NAMES)
    with pytest.raises(ValueError, match="position='behind'"):
        CoOp(tower, 3, position='behind')
    with pytest.raises(ValueError, match=r"num_context=3, but init='a photo' has 2 tokens"):
        CoOp(tower, 3, 'a photo')
    with pytest.raises(ValueError, match='num_context=0: expected 1 or more'):
        CoOp(tower, 0)
    with pytest.raises(ValueError, match='empty name'):
        CoOp(tower, 3, closing='')(['star', ' '])
    with pytest.raises(ValueError, match='know their own 3 names only'):
        CoOp(tower, 3, class_specific=True, class_names=NAMES, closing='')(NAMES[:2])
    with pytest.raises(ValueError, match='class_specific=True needs class_names'):
        CoOp(tower, 3, class_specific=True)
    with pytest.raises(ValueError, match="'sky' is not in the vocabulary"):
        CoOp(tower, 3, closing='')(['sky'])
    last = TextTower(TextEncoder(small_clip(pool_type='last')), tower.tokenizer, 20.0, None, 'siglip')
    with pytest.raises(ValueError, match="siglip pools its texts by 'last'"):
        CoOp(last, 3)
