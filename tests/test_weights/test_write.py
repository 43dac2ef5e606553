import json
import random

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load

from mvp_mm.weights.write import safetensors_bytes

TENSORS = {
    'a.weight': torch.arange(6.0).view(2, 3).T,
    'b': torch.tensor([True, False]),
    'c': torch.tensor(2, dtype=torch.int64),
    'half': torch.tensor([0.5, -1.5], dtype=torch.bfloat16),
}
TEXTS = {f'text {number}': json.dumps({'"ä\\\n\x01\x7f': number}, ensure_ascii=False) for number in range(8)}


def test_what_was_written_is_read(tmp_path):
    content = safetensors_bytes(TENSORS, TEXTS)
    (tmp_path / 'a.safetensors').write_bytes(content)
    with safe_open(tmp_path / 'a.safetensors', 'pt') as file:
        assert file.metadata() == TEXTS
    read = load(content)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) for name in TENSORS)
    assert all(read[name].dtype == TENSORS[name].dtype for name in TENSORS)
    assert load(safetensors_bytes(TENSORS)).keys() == TENSORS.keys()


def test_the_same_bytes_whatever_the_order():
    first = safetensors_bytes(TENSORS, TEXTS)
    for seed in range(20):
        shuffle = random.Random(seed).sample
        tensors, texts = (dict(shuffle(list(d.items()), len(d))) for d in (TENSORS, TEXTS))
        assert safetensors_bytes(tensors, texts) == first


def test_one_memory_of_two_names_is_refused():
    both = torch.zeros(2)
    with pytest.raises((RuntimeError, SafetensorError)):
        safetensors_bytes(dict(a=both, b=both))
