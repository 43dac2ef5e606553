"""MVP with a small ConvNeXt as the student on the embedded scenes, the embedded CLIP as the teacher.

Command:  python tools/train.py configs/mvp/convtiny_scenes.py --amp
          (leave out --amp on a CPU without native bf16)
          Nothing masked, plain feature distillation: --cfg-options \
              train_dataloader.dataset.pipeline.3.num_masking_patches=0
Cost:     2,000 steps of 64 scenes: 17 core-minutes and the loading, on an Intel Xeon with AMX and avx512_bf16.
Expected: `excess`, the cosine above the best constant prediction, above 0.
Measured: linear probe of shape 36.1 ± 0.6 %, colour 83.9 ± 0.4 % (three seeds, torch 2.14.1, 2026-11-27, the same Xeon); beside
          itself from scratch in docs/students.md. Feature distillation was not run.

The student that is deployed: convolutions, maps at strides 2, 4, 8 and 8. Masked patches are painted with a
learnt colour; the target of CLS is predicted from the pooled features. Otherwise configs/mvp/vittiny_scenes.py.
"""

_base_ = './vittiny_scenes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmStudent',
        model_name='convnext_atto',
        img_size=64,
        patch_size=8,  # as the teacher's
        model_args=dict(
            patch_size=2,  # of the stem
            output_stride=8,
            depths=(1, 1, 1, 2),
            dims=(32, 64, 96, 128),
            ls_init_value=0.1,  # as of the other students; ConvNeXt's 1e-6 is for 300 epochs
        ),
    ),
    neck=dict(in_channels=128),
)
