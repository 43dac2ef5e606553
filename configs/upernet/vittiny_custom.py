"""UperNet on a tiny student for a dataset of your own, on a CPU: copy this file, change the marked lines.

Command:  python tools/train.py vittiny_custom.py [--cfg-options model.backbone.init_cfg.checkpoint=FILE]
          FILE: a checkpoint of configs/mvp/vittiny_debug.py or vittiny_scenes*.py. From scratch without it.
          Then:  python tools/segment.py IMAGE --config vittiny_custom.py \
              --checkpoint work_dirs/vittiny_custom/iter_400.pth --out DIR
Cost:     minutes on two CPU cores.
Expected: the loss falls, which shows that the data suit configs/upernet/vitb16_custom_512x512.py.
Measured: in tests only.

The folder is laid out as for that config. Same parts as configs/upernet/vittiny_camvid.py: images are
resized to 360x270 pixels and cropped to 192x192.
"""

_base_ = 'mvp_mm::upernet/vittiny_camvid.py'

data_root = 'data/mine'  # 1: the folder
classes = ('background', 'object')  # 2: names, in the order of the numbers
palette = [[0, 0, 0], [220, 20, 60]]  # 3: colours for the pictures, RGB
img_suffix = '.jpg'  # 4: what the images' names end with

metainfo = dict(classes=classes, palette=palette)
dataset = dict(type='mmseg.SegmentationFolder', data_root=data_root, metainfo=metainfo, img_suffix=img_suffix)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
model = dict(decode_head=dict(num_classes=len(classes)), auxiliary_head=dict(num_classes=len(classes)))
