"""Go on from DINOv3's public ViT-S/16 on photographs of your own, with OpenAI's CLIP ViT-B/16 as the teacher.

Command:  mvp-mm pretrain --student timm:vit_small_patch16_dinov3.lvd1689m --data DIR --out OUT
          python tools/train.py configs/mvp/timm_vits16_dinov3.py \
              --cfg-options train_dataloader.dataset.data_root=DIR
Cost:     30 epochs of DIR. GPU-hours: not measured.
Expected: unknown: no paper goes on from DINOv3 in this way.
Measured: not trained by this project. Tests run it at debug size; on the scenes: docs/students.md.

Other networks: model.backbone.model_name, and neck.in_channels their width. The learning rate, its decay and the
length are this project's choice for a student that knows much already.
"""

_base_ = './vitb16_in1k.py'

name = 'vit_small_patch16_dinov3.lvd1689m'
model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmStudent',
        model_name=name,
        img_size=224,
        patch_size=16,
        init_cfg=dict(type='Pretrained', checkpoint=f'timm:{name}'),
    ),
    neck=dict(in_channels=384),
)

optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay_rate=0.75))
param_scheduler = [dict(_base_.param_scheduler[0], end=3), dict(_base_.param_scheduler[1], begin=3, end=30)]
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=1024)
train_dataloader = dict(sampler=dict(total_batch=1024))
