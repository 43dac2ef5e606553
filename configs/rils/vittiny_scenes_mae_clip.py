"""configs/rils/vittiny_scenes.py with pixels in place of language space: MAE and CLIP in one training.

Command:  python tools/train.py configs/rils/vittiny_scenes_mae_clip.py --amp
Cost:     as configs/rils/vittiny_scenes.py, within 1 %.
Expected: below configs/rils/vittiny_scenes.py, by the paper's claim.
Measured: not yet.

The same encoders, masks, decoder and weight; the decoder predicts the normalised pixels of each masked patch.
"""

_base_ = './vittiny_scenes.py'

model = dict(type='MAECLIP', reconstruction_loss=None)
