import numpy as np
from PIL import Image

from mvp_mm.datasets.scenes import PALETTE, SceneCollection
from mvp_mm.visualization.scene_sheet import draw_scene_sheet


def test_pictures_beside_their_label_maps(tmp_path):
    draw_scene_sheet(SceneCollection('val', 3, 16), tmp_path / 'deep/scenes.png', columns=2)
    drawn = np.asarray(Image.open(tmp_path / 'deep/scenes.png').convert('RGB'))
    assert drawn.shape == (585, 624, 3)  # two rows of two inches and the legend, two columns
    backgrounds = (drawn == PALETTE[0]).all(axis=-1)
    assert backgrounds.mean() > 0.05  # of the label maps
    assert all((drawn == colour).all(axis=-1).sum() > 20 for colour in PALETTE)  # in the legend
