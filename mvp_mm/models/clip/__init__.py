"""CLIP: how the embedded teacher is trained."""
