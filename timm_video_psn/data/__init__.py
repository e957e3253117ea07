"""From video files to batches of clips.

`read_index` says which videos there are, `VideoDataset` turns one into a clip, `create_loader` makes batches.
"""

from timm_video_psn.data.clips.augment import AutoAugment, ColorJitter, RandomErasing
from timm_video_psn.data.clips.batch import Batch, Sample, UnreadableVideo, collate
from timm_video_psn.data.clips.create_transform import create_transform
from timm_video_psn.data.clips.dataset import VideoDataset
from timm_video_psn.data.clips.epoch_sampler import EpochSampler
from timm_video_psn.data.clips.sampling import (
    SAMPLINGS,
    segment_indices,
)
from timm_video_psn.data.clips.transforms import EvalTransform, ThreeCropTransform, TrainTransform, normalize_clip
from timm_video_psn.data.clips.views import MultiViewDataset, VideoViews, ViewPlan
from timm_video_psn.data.datasets.index import PathTable, VideoIndex, videos_of_both
from timm_video_psn.data.datasets.labels import check_class_names, label_fingerprint
from timm_video_psn.data.datasets.motion import MOTION_CLASSES, motion_clip, prepare_motion
from timm_video_psn.data.loaders import create_loader, end_workers
from timm_video_psn.data.registry import ANNOTATED, DATASETS, STREAMED, read_index
from timm_video_psn.data.shards.index import ShardedIndex, holds_shards
from timm_video_psn.data.shards.loader import ShardLoader, ShardOrder
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.reader import VideoReader, check_decoder, decode_clip
from timm_video_psn.data.video.stream import FrameStream, TimedFrame, is_file_url, is_live
from timm_video_psn.data.video.write_video import write_video

__all__ = [
    "ANNOTATED",
    "DATASETS",
    "MOTION_CLASSES",
    "SAMPLINGS",
    "STREAMED",
    "AutoAugment",
    "Batch",
    "ColorJitter",
    "DecodeError",
    "EpochSampler",
    "EvalTransform",
    "FrameStream",
    "MultiViewDataset",
    "PathTable",
    "RandomErasing",
    "Sample",
    "ShardLoader",
    "ShardOrder",
    "ShardedIndex",
    "ThreeCropTransform",
    "TimedFrame",
    "TrainTransform",
    "UnreadableVideo",
    "VideoDataset",
    "VideoIndex",
    "VideoReader",
    "VideoViews",
    "ViewPlan",
    "check_class_names",
    "check_decoder",
    "collate",
    "create_loader",
    "create_transform",
    "decode_clip",
    "end_workers",
    "holds_shards",
    "is_file_url",
    "is_live",
    "label_fingerprint",
    "motion_clip",
    "normalize_clip",
    "prepare_motion",
    "read_index",
    "segment_indices",
    "videos_of_both",
    "write_video",
]
