"""UperNet on MVP's ViT-B/16 for a dataset of your own: change the four lines marked below.

Command:  bash tools/dist_train.sh configs/upernet/vitb16_custom_512x512.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
Cost:     as vitb16_ade20k_160k_512x512.py; shorten train_cfg.max_iters and the schedule for small data.
Expected: depends on the data.
Measured: nothing; the tests train it for two steps at debug size.

The folder holds images/{train,val} and annotations/{train,val}: a PNG for each image, of the same name, whose
values are class numbers from 0; 255 is ignored.
"""

_base_ = './vitb16_ade20k_160k_512x512.py'

data_root = 'data/mine'  # 1: the folder
classes = ('background', 'object')  # 2: names, in the order of the numbers
palette = [[0, 0, 0], [220, 20, 60]]  # 3: colours for the pictures, RGB
img_suffix = '.jpg'  # 4: what the images' names end with

_base_.train_pipeline[1].reduce_zero_label = False
_base_.test_pipeline[2].reduce_zero_label = False
_base_.tta_pipeline[1].transforms[2][0].reduce_zero_label = False
dataset = dict(
    _delete_=True,
    type='mmseg.BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
    img_suffix=img_suffix,
    seg_map_suffix='.png',
)
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=_base_.train_pipeline,
        **dataset,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=_base_.test_pipeline,
        **dataset,
    )
)
test_dataloader = val_dataloader
model = dict(decode_head=dict(num_classes=len(classes)), auxiliary_head=dict(num_classes=len(classes)))
