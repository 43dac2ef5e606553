import json
import sys

import open_clip
import pytest
import torch

from mvp_mm.text import tokenize
from mvp_mm.text.tokenize import WordTokenizer


def model_config(tmp_path, **text):
    path = tmp_path / 'model.json'
    path.write_text(json.dumps(dict(text_cfg=dict(context_length=8, **text))))
    return str(path)


def test_words_of_a_model_config(tmp_path):
    path = model_config(tmp_path, vocab_size=5, tokenizer_kwargs=dict(words=['a', 'square']))
    assert tokenize('a square', path).tolist() == [[1, 2, 3, 4, 0, 0, 0, 0]]


def test_clips_own(tmp_path):
    captions = ['a photo of a cat', 'two dogs']
    theirs = open_clip.get_tokenizer('ViT-B-32')(captions)
    assert torch.equal(tokenize(captions, 'ViT-B-32'), theirs)
    assert torch.equal(tokenize(captions, model_config(tmp_path, vocab_size=49408)), theirs[:, :8])


def test_another_vocabulary(tmp_path):
    path = model_config(tmp_path, vocab_size=7, tokenizer_kwargs=dict(words=['a', 'square']))
    with pytest.raises(ValueError, match='vocab_size is 7, but the 2 words of .* are 5'):
        tokenize('a', path)


def test_ids_of_words():
    tokenizer = WordTokenizer(['a', 'red', 'square'], context_length=6)
    assert tokenizer.vocab_size == 6
    assert tokenizer(['a red square', 'red']).tolist() == [[1, 2, 3, 4, 5, 0], [1, 3, 5, 0, 0, 0]]
    assert tokenizer('a').shape == (1, 6)


def test_refused_words():
    with pytest.raises(ValueError, match='occurs twice'):
        WordTokenizer(['a', 'a'], 6)
    tokenizer = WordTokenizer(['a', 'red'], 4)
    with pytest.raises(ValueError, match="'blue' is not in the vocabulary: a red"):
        tokenizer('a blue')
    with pytest.raises(ValueError, match='takes 5 tokens but the context has 4'):
        tokenizer('a red a')


def test_case_and_punctuation_do_not_count():
    tokenizer = WordTokenizer(['a', 'st', 'bernard'], 6)
    assert torch.equal(tokenizer('A St._Bernard!'), tokenizer('a st bernard'))
    assert WordTokenizer(['a', '.'], 6)('a. a!').tolist() == [[1, 2, 3, 2, 4, 0]]
    with pytest.raises(ValueError, match="'St. Bernard' of the vocabulary is not one word in lower case"):
        WordTokenizer(['a', 'St. Bernard'], 6)


def test_words_that_no_caption_held_are_warned_of_once(monkeypatch):
    told = []
    module = sys.modules[WordTokenizer.__module__]
    monkeypatch.setattr(module, 'print_log', lambda text, *_: told.append(text))
    tokenizer = WordTokenizer(['a', 'lemon', 'pole'], 6, unseen=['lemon'])
    assert tokenizer('a lemon').tolist() == [[1, 2, 3, 5, 0, 0]]
    tokenizer('a lemon'), tokenizer('a pole')
    assert told == ['no caption of the training held lemon: what these find is chance']
    with pytest.raises(ValueError, match="'sky' is not in the vocabulary: a pole$"):
        tokenizer('sky')


def test_of_a_large_vocabulary_the_nearest_words_are_named():
    tokenizer = WordTokenizer([f'word{number}' for number in range(60)] + ['bus', 'bridge'], 8)
    with pytest.raises(ValueError, match="'bridges' is not in the vocabulary: 62 words, such as bridge$"):
        tokenizer('two bridges'.replace('two', 'bus'))
    with pytest.raises(ValueError, match='62 words, such as word0, word1, word2, word3, word4$'):
        tokenizer('zxq')
