"""configs/rils/vittiny_scenes.py without the masked pass: the encoders and the contrastive loss alone.

Command:  python tools/train.py configs/rils/vittiny_scenes_clip.py --amp
          At RILS's cost, not its steps: --cfg-options train_cfg.max_epochs=15 param_scheduler.1.end=15
Cost:     3,120 steps of 128 scenes, 35 million multiply-adds an image forward. 0.25 s of a core a step,
          without the loader, beside other programs on two cores of an Intel Xeon with AMX and avx512_bf16.
Expected: below configs/rils/vittiny_scenes.py, by the paper's claim.
Measured: after 1,000 steps, three seeds: shape by name 32.3 ± 1.8 %, colour 93.0 ± 0.3 % (docs/rils.md).

Unlike configs/teachers/clip_vittiny_scenes.py, which is open_clip's network, 128 wide, with CLS as the image.
"""

_base_ = './vittiny_scenes.py'

model = dict(decoder=None, reconstruction_loss=None, reconstruction_weight=0)
