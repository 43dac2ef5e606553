import torch

from mvp_mm.models import PixelTargetGenerator


def test_pixels():
    """CLS is the image shrunk to a patch; each patch has its own mean and variance taken out (MAE)."""
    generator = PixelTargetGenerator(patch_size=4, student_mean=[0.0] * 3, student_std=[255.0] * 3)
    images = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    targets = generator(images)
    assert targets.shape == (2, 1 + 6, 48) and generator.out_channels == 48
    shrunk = images.unflatten(3, (4, 3)).unflatten(2, (4, 2)).mean((3, 5))
    patches = [images[:, :, row : row + 4, column : column + 4] for row in (0, 4) for column in (0, 4, 8)]
    for target, patch in zip(targets.unbind(1), [shrunk, *patches], strict=True):
        pixels = patch.flatten(1)
        expected = (pixels - pixels.mean(1, keepdim=True)) / (pixels.var(1, keepdim=True) + 1e-6).sqrt()
        assert torch.allclose(target, expected, atol=1e-5)
