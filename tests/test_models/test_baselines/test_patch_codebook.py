import torch

from mvp_mm.datasets.scenes import SceneCollection
from mvp_mm.models.baselines.patch_codebook import PatchCodebook


def test_each_patch_has_its_nearest_entry():
    codebook = PatchCodebook(num_tokens=8, patch_size=16, scenes=6, iterations=5)
    assert codebook.codebook.shape == (8, 3 * 16 * 16)
    assert torch.equal(codebook.codebook, PatchCodebook(8, 16, scenes=6, iterations=5).codebook)
    image = torch.from_numpy(SceneCollection('train', 6)[3][0]).permute(2, 0, 1) / 255
    logits = codebook(image[None])
    assert logits.shape == (1, 8, 4, 4)
    patch = image[:, 16:32, 48:64].flatten()
    distances = (codebook.codebook - patch).norm(dim=1)
    assert torch.allclose(logits[0, :, 1, 3], -distances, atol=1e-4)
