"""What detection configs need of this package, registered with mmdet; imported by them alone."""

from ..models import detection as detection  # which says so where mmdet is missing
from .sources.coco_images import CocoImages as CocoImages
