import pytest

from mvp_mm.text.word_tokenizer import WordTokenizer


def test_ids():
    tokenizer = WordTokenizer(['a', 'red', 'square'], context_length=6)
    assert tokenizer.vocab_size == 6
    assert tokenizer(['a red square', 'red']).tolist() == [[1, 2, 3, 4, 5, 0], [1, 3, 5, 0, 0, 0]]
    assert tokenizer('a').shape == (1, 6)


def test_refused():
    with pytest.raises(ValueError, match='occurs twice'):
        WordTokenizer(['a', 'a'], 6)
    tokenizer = WordTokenizer(['a', 'red'], 4)
    with pytest.raises(ValueError, match="'blue' is not in the vocabulary: a red"):
        tokenizer('a blue')
    with pytest.raises(ValueError, match='takes 5 tokens but the context has 4'):
        tokenizer('a red a')
