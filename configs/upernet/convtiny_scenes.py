"""UperNet on the small ConvNeXt student, the embedded scenes with few labels: nine classes, 64x64.

Command:  python tools/train.py configs/upernet/convtiny_scenes.py --cfg-options \
              train_dataloader.dataset.count=300 model.backbone.init_cfg.checkpoint=FILE
          FILE: a checkpoint of configs/mvp/convtiny_scenes.py as it is. From scratch: model.backbone.init_cfg=None
Cost:     1,000 steps of 16 scenes: not measured; 0.7 of the multiply-adds of vittiny_scenes.py.
Expected: more mIoU from a pre-trained student than from scratch.
Measured: 38.1 ± 1.2 mIoU from configs/mvp/convtiny_scenes.py, 23.6 ± 0.3 from scratch (300 labels, three seeds, docs/students.md).
"""

_base_ = './vittiny_scenes.py'

widths = [64, 96, 128]  # at strides 4, 8 and 8
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TimmStudent',
        model_name='convnext_atto',
        img_size=64,
        patch_size=8,
        out_type='featmap',
        out_indices=(1, 2, 3),
        model_args=dict(
            patch_size=2,
            output_stride=8,
            depths=(1, 1, 1, 2),
            dims=(32, 64, 96, 128),
            ls_init_value=0.1,
            drop_path_rate=0.1,
        ),
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=None,  # the stages are the pyramid
    decode_head=dict(in_channels=widths, in_index=[0, 1, 2]),
    auxiliary_head=dict(in_channels=widths[1], in_index=1),
)
