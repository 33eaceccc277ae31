"""Part 3: objects as a set."""

from lib.detection.backbone import ResNet, SmallBackbone, pad_images
from lib.detection.boxes import box_cxcywh_to_xyxy, box_iou, box_xyxy_to_cxcywh, generalized_box_iou
from lib.detection.detr import DETR, detr_resnet50, postprocess
from lib.detection.losses import SetCriterion
from lib.detection.matching import HungarianMatcher
from lib.detection.position import PositionEmbeddingLearned, PositionEmbeddingSine
from lib.detection.transformer import Transformer
from lib.detection.two_stage import TwoStageDETR

__all__ = [
    "DETR",
    "HungarianMatcher",
    "PositionEmbeddingLearned",
    "PositionEmbeddingSine",
    "ResNet",
    "SetCriterion",
    "SmallBackbone",
    "Transformer",
    "TwoStageDETR",
    "box_cxcywh_to_xyxy",
    "box_iou",
    "box_xyxy_to_cxcywh",
    "detr_resnet50",
    "generalized_box_iou",
    "pad_images",
    "postprocess",
]
