"""Small CLIPs by open_clip itself, and files of their weights."""

from pathlib import Path

import open_clip
import torch


def open_clip_model(path, seed=1):
    """An independent open_clip model of a config file, with weights that hide no mistake."""
    open_clip.add_model_config(Path(path))
    torch.manual_seed(seed)
    model = open_clip.create_model(Path(path).stem).eval()
    for parameter in model.visual.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


def saved(model, folder, name='weights.pt'):
    path = Path(folder) / name
    torch.save(model.state_dict(), path)
    return str(path)
