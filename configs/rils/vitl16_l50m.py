"""RILS, ViT-L/16, on 50 million image-text pairs of LAION-400M (arXiv 2301.06958).

Command:  NNODES=2 NODE_RANK=N MASTER_ADDR=HOST bash tools/dist_train.sh configs/rils/vitl16_l50m.py 8
          On 16 GPUs: train_dataloader.batch_size=256. The batch is never made by accumulation.
Cost:     305,175 steps of 4096 pairs. GPU-hours: not measured by this project.
Expected: not known: the paper's figures are not public as text, and its authors released no weights.
Measured: not trained by this project.
"""

_base_ = './vitb16_l20m.py'

text_encoder = 'ViT-L-14-quickgelu'  # only its text: 768 wide, 12 heads, 12 layers; joint width 768
model = dict(backbone=dict(arch='large'), text_encoder=text_encoder)
pipeline = _base_.pipeline
pipeline[2].model_name = text_encoder
train_dataloader = dict(
    batch_size=256,  # x 16 GPUs = 4096 (SLIP)
    dataset=dict(data_root='data/laion400m/l50m/*.tar', pipeline=pipeline),
)
