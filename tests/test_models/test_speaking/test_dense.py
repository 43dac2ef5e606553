import pytest
import torch
from torch.nn import functional as F

from mvp_mm.models.speaking.class_embeddings import ClassEmbeddings
from mvp_mm.models.speaking.dense import dense_cosines, label_map


@pytest.mark.parametrize('size', [None, (23, 31)])
@pytest.mark.parametrize(('background', 'threshold'), [(None, None), (3, 0.2)])
def test_many_names_are_compared_some_at_a_time(size, background, threshold):
    torch.manual_seed(0)
    owner = torch.cat([torch.arange(40), torch.randint(0, 40, (60,))]).sort().values
    embeddings = ClassEmbeddings(torch.randn(100, 8), owner, tuple(map(str, range(40))))
    cosines = torch.randn(2, 100, 12, 18).clamp(-1, 1) * 0.3
    whole = cosines if size is None else F.interpolate(cosines, size, mode='bilinear')
    best, expected = embeddings.of_classes((40 * whole).softmax(1), dim=1).max(1)
    if threshold is not None:
        expected[best < threshold] = background
    found = label_map(cosines, embeddings, size, 40, background, threshold)
    assert torch.equal(found, expected)


class Patches:
    """A model whose patch tokens are the patch's mean colours."""

    patch_size = 4

    def embed_image(self, images):
        means = F.avg_pool2d(images, self.patch_size)
        return None, means.flatten(2).transpose(1, 2)


def test_windows_are_padded_to_whole_patches_and_averaged_where_they_overlap():
    torch.manual_seed(1)
    embeddings = ClassEmbeddings(F.normalize(torch.randn(5, 3), dim=1), torch.arange(5), tuple('abcde'))
    images = torch.randn(2, 3, 13, 22)
    expected, count = torch.zeros(2, 5, 13, 22), torch.zeros(13, 22)
    for top in (0, 3):  # a window of 10 every 6, the last one ends with the image
        for left in (0, 6, 12):
            crop = F.pad(images[..., top : top + 10, left : left + 10], (0, 2, 0, 2))
            means = F.normalize(F.avg_pool2d(crop, 4), dim=1)
            cosines = torch.einsum('bdhw,nd->bnhw', means, embeddings.vectors)
            cosines = F.interpolate(cosines, (12, 12), mode='bilinear')[..., :10, :10]
            expected[..., top : top + 10, left : left + 10] += cosines
            count[top : top + 10, left : left + 10] += 1
    found = dense_cosines(Patches(), images, embeddings, window=10, stride=6)
    assert (found - expected / count).abs().max() < 1e-6
    # an image smaller than the window is one window
    small = dense_cosines(Patches(), images[..., :8, :8], embeddings, window=10, stride=6)
    whole = torch.einsum(
        'bdhw,nd->bnhw', F.normalize(F.avg_pool2d(images[..., :8, :8], 4), dim=1), embeddings.vectors
    )
    assert torch.allclose(small, F.interpolate(whole, (8, 8), mode='bilinear'), atol=1e-6)


def test_bad_strides_and_half_a_background_are_refused():
    embeddings = ClassEmbeddings(torch.eye(3), torch.arange(3), tuple('abc'))
    with pytest.raises(ValueError, match='stride=11: expected 1 to 10, the window'):
        dense_cosines(Patches(), torch.zeros(1, 3, 8, 8), embeddings, 10, 11)
    with pytest.raises(ValueError, match='expected both or neither'):
        label_map(torch.zeros(1, 3, 2, 2), embeddings, background=0)
