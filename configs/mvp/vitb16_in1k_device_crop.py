"""MVP, ViT-B/16, 300 epochs, for machines with few cores: the GPU decodes the images and cuts the crops.

Command:  bash tools/dist_train.sh configs/mvp/vitb16_in1k_device_crop.py 8
Cost:     as vitb16_in1k.py; a loader's core has no pixels to make, and the GPU has more to do.
Expected: as vitb16_in1k.py: the same draws give the same crops, to within the rounding of 8-bit pixels.
Measured: the loader's part, and the crops with a CPU's decoder (docs/performance.md); nothing on a GPU.
          Not trained.
"""

_base_ = './vitb16_in1k.py'

model = dict(data_preprocessor=dict(type='DeviceCropPreprocessor', size=224))
train_pipeline = [
    dict(type='EncodedCrop', size=224),  # paper §3.3.3; scale, flip, jitter: BEiT recipe, its defaults
    {{_base_.mask}},
    dict(type='PackMaskedInputs'),
]
train_dataloader = dict(
    collate_fn=dict(type='collate_encoded'),
    pin_memory=False,  # nvJPEG reads ordinary memory
    dataset=dict(pipeline=train_pipeline),
)
