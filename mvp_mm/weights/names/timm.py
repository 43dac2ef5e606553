"""Names of timm's ``VisionTransformer``: BEiT's, but for the layer scale."""

from dataclasses import replace

from .beit import BEIT

VIT = replace(BEIT, inside={**BEIT.inside, 'gamma_1': 'ls1.gamma', 'gamma_2': 'ls2.gamma'})
