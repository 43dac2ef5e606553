"""configs/rils/vittiny_photographs.py without the masked pass: the encoders and the contrastive loss alone.

Command:  python tools/train.py configs/rils/vittiny_photographs_clip.py --amp
          At RILS's cost, not its steps: --cfg-options train_cfg.max_epochs=24 param_scheduler.1.end=24
Cost:     4,000 steps of 128 photographs: 0.8 hours of a core, by 0.74 s a step, as there.
Expected: below configs/rils/vittiny_photographs.py, by the paper's claim.
Measured: not yet.
"""

_base_ = './vittiny_photographs.py'

model = dict(decoder=None, reconstruction_loss=None, reconstruction_weight=0)
