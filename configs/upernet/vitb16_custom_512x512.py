"""UperNet on MVP's ViT-B/16 for a dataset of your own: copy this file, change the four lines marked below.

Command:  bash tools/dist_train.sh vitb16_custom_512x512.py 8 \
              --cfg-options model.backbone.init_cfg.checkpoint=FILE_OR_URL
Cost:     as vitb16_ade20k_160k_512x512.py; shorten train_cfg.max_iters and the schedule for small data.
Expected: depends on the data.
Measured: nothing; the tests train it for two steps at debug size.

The folder holds images/{train,val} and annotations/{train,val}: a PNG for each image, of the same name, whose
values are class numbers from 0; 255 is ignored. On a CPU: vittiny_custom.py.
"""

_base_ = [
    'mvp_mm::_base_/models/upernet_vitb16.py',
    'mvp_mm::_base_/datasets/segmentation_folder_512x512.py',
    'mvp_mm::_base_/schedules/upernet_adamw_160k.py',
    'mvp_mm::_base_/segmentation_runtime.py',
]

data_root = 'data/mine'  # 1: the folder
classes = ('background', 'object')  # 2: names, in the order of the numbers
palette = [[0, 0, 0], [220, 20, 60]]  # 3: colours for the pictures, RGB
img_suffix = '.jpg'  # 4: what the images' names end with

metainfo = dict(classes=classes, palette=palette)
dataset = dict(data_root=data_root, metainfo=metainfo, img_suffix=img_suffix)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
model = dict(decode_head=dict(num_classes=len(classes)), auxiliary_head=dict(num_classes=len(classes)))
