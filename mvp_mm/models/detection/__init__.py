"""What detection configs need of mmdet: imported by them, so that ``import mvp_mm`` stays cheap."""

try:
    from .simple_feature_pyramid import SimpleFeaturePyramid as SimpleFeaturePyramid
except ModuleNotFoundError as error:
    if error.name != 'mmdet':
        raise
    raise ImportError(
        'detection needs mmdet, which is not installed: pip install "mvp_mm[detection]"'
    ) from error
