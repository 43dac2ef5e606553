"""configs/rils/vittiny_photographs.py without the masked pass: the encoders and the contrastive loss alone.

Command:  python tools/train.py configs/rils/vittiny_photographs_clip.py --amp
          At RILS's cost, not its steps: --cfg-options train_cfg.max_epochs=24 param_scheduler.1.end=24
Cost:     4,000 steps of 128 photographs: 22 minutes, as there.
Expected: below configs/rils/vittiny_photographs.py, by the paper's claim; it is above, by names.
Measured: 26.4 % of seen, 7.1 % of held-out classes by name; 38.9 % of held-out ones by k-NN. At RILS's cost 29.1,
          7.7 and 40.8 %. Seed 0, torch 2.14.1, 2026-11-27, an Intel Xeon with AMX and avx512_bf16.
"""

_base_ = './vittiny_photographs.py'

model = dict(decoder=None, reconstruction_loss=None, reconstruction_weight=0)
