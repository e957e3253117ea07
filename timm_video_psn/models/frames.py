"""From clips to frames and back to clips, for a VideoNet that runs, is scripted, or is traced into a graph.

A temporal module knows the length T of the clips at hand by an attribute that VideoNet sets on every call. TorchScript
cannot set it, so that a scripted model takes clips of one length; the graphs of `torch.fx` set it by `TracedFold`.
"""

from typing import Any

import torch
from timm.models import register_notrace_function, register_notrace_module
from torch import Tensor, nn

from timm_video_psn.layers.clip import fold_clip, split_frames, unfold_clip
from timm_video_psn.layers.consensus import MultiScaleRelation
from timm_video_psn.layers.temporal_module import TemporalModule
from timm_video_psn.layers.views import EachItem, MapView

# In timm's feature graphs (`feature_cls="fx"`) these are single steps: they look at the shapes that they are given.
for _module in (TemporalModule, MapView, EachItem, MultiScaleRelation):
    register_notrace_module(_module)


def set_length(backbone: nn.Module, num_frames: int, image_size: tuple[int, int] | None = None) -> None:
    """Tells every temporal module how many frames the clip at hand has, and every view of tokens their size.

    Args:
        backbone: Holds the modules.
        num_frames: T.
        image_size: Height and width of the frames.

    Raises:
        ValueError: A temporal module is made for another number of frames.
    """
    for module in backbone.modules():
        if isinstance(module, TemporalModule):
            left = -(-num_frames // module.time_divisor)  # rounded up
            if module.num_frames != left:
                module.num_frames = left
        elif isinstance(module, MapView) and image_size is not None:
            module.image_size = image_size


def fold(backbone: nn.Module, x: Tensor) -> Tensor:
    """Clips or images to a batch of frames; the temporal modules of the backbone learn T.

    Args:
        backbone: Holds the modules.
        x: Clips or images.

    Shape:
        x: (B, C, T, H, W) -> (B*T, C, H, W); (B, C, H, W) -> same

    Raises:
        TypeError: X holds integers.
        ValueError: X is neither, or its channels are elsewhere.
    """
    if torch.jit.is_tracing():  # shapes are tensors then, and what is traced has constants for them
        num_frames = int(x.shape[2]) if x.ndim == 5 else 1
        set_length(backbone, num_frames, (int(x.shape[-2]), int(x.shape[-1])))
        return torch.jit.script(fold_fixed)(x, num_frames)  # which checks the length on every call
    check_input(backbone, x)
    if x.ndim in (4, 5):
        set_length(backbone, x.shape[2] if x.ndim == 5 else 1, (x.shape[-2], x.shape[-1]))
    return fold_fixed(x, 0)


def check_input(backbone: nn.Module, x: Tensor) -> None:
    """Raises for a batch that the backbone cannot take, with what it looks like and what to do.

    Only types and sizes are compared, which leaves nothing in compiled and exported graphs.

    Args:
        backbone: timm model.
        x: Clips or images.

    Raises:
        TypeError: X holds integers.
        ValueError: Its channels are not where the backbone's are.
    """
    if not x.dtype.is_floating_point:
        raise TypeError(
            f"clips are normalised floats; got {x.dtype}: use timm_video_psn.normalize_clip on frames (B, T, H, W, C), "
            "or timm_video_psn.load(...).predict, which takes frames as they are"
        )
    channels = getattr(backbone, "in_chans", None)
    if x.ndim not in (4, 5) or channels is None or x.shape[1] == channels or x.shape[1] == _stem_channels(backbone):
        return
    form = "(B, C, T, H, W)" if x.ndim == 5 else "(B, C, H, W)"
    kind = "clips" if x.ndim == 5 else "images"
    if x.ndim == 5 and x.shape[2] == channels:
        tip = "which looks like (B, T, C, H, W): use clip.transpose(1, 2)"
    elif x.ndim == 5 and x.shape[4] == channels:
        tip = "which looks like (B, T, H, W, C): use clip.permute(0, 4, 1, 2, 3)"
    elif x.ndim == 4 and x.shape[0] == channels:
        tip = "which looks like one clip (C, T, H, W): use clip[None]"
    elif x.ndim == 4 and x.shape[3] == channels:
        tip = "which looks like (B, H, W, C): use images.permute(0, 3, 1, 2)"
    else:
        found = x.shape[1]
        tip = f"which has {found} channels, and the model {channels}: use create_model(..., in_chans={found})"
    raise ValueError(f"{kind} are {form}; got {tuple(x.shape)}, {tip}")


def _stem_channels(backbone: nn.Module) -> int | None:
    """The channels of the first convolution, which somebody may have replaced."""
    kinds = (nn.Conv2d, nn.Conv3d)
    return next((module.in_channels for module in backbone.modules() if isinstance(module, kinds)), None)


def fold_fixed(x: Tensor, num_frames: int) -> Tensor:
    """Clips of one length, or images, to a batch of frames.

    Args:
        x: Clips or images, each of these a clip of one frame.
        num_frames: T; 0 for any length.

    Shape:
        x: (B, C, T, H, W) -> (B*T, C, H, W); (B, C, H, W) -> same

    Raises:
        ValueError: X is neither, or its clips have another length.
    """
    if x.ndim != 4 and x.ndim != 5:
        raise ValueError(
            f"input of shape {list(x.shape)}: expected clips (B, C, T, H, W) or images (B, C, H, W); "
            "a single clip needs a batch dimension, clip[None]"
        )
    found = x.shape[2] if x.ndim == 5 else 1
    if num_frames != 0 and found != num_frames:
        raise ValueError(
            f"clips of {found} frames, but TorchScript has fixed this model to clips of {num_frames}; use "
            "clips of that length, or call model.set_num_frames(...) and script or trace the model again"
        )
    return fold_clip(x) if x.ndim == 5 else x


def check_scriptable(backbone: nn.Module) -> None:
    """Raises for a backbone whose temporal modules cannot be compiled by TorchScript.

    Args:
        backbone: Holds the modules.

    Raises:
        NotImplementedError: It passes on something else than maps (B*T, C, H, W) where they are, or one of the modules
            cannot be compiled.
    """
    for module in backbone.modules():
        if isinstance(module, TemporalModule) and not module.scriptable:
            raise NotImplementedError(
                f"TorchScript cannot compile {type(module).__name__}; use torch.compile or torch.export"
            )
    if any(isinstance(module, (MapView, EachItem)) for module in backbone.modules()):
        raise NotImplementedError(
            f"TorchScript cannot compile temporal modules in {type(backbone).__name__}, whose features are tokens, "
            "channels-last maps or several maps at once; use torch.compile or torch.export, or a convolutional backbone"
        )


@register_notrace_module
class TracedFold(nn.Module):
    """What `torch.fx` records for the folding of clips: a step that tells the temporal modules the length of each.

    Args:
        backbone: Holds the temporal modules; it does not become a child.

    Shape:
        x: (B, C, T, H, W) -> (B*T, C, H, W); (B, C, H, W) -> same
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.held = [backbone]  # in a list it is not a child: its parameters have one name only

    @torch.jit.unused
    def forward(self, x: Tensor) -> Tensor:
        """Tell, and fold."""
        return fold(self.held[0], x)


@register_notrace_function
def unfold(features: Tensor, x: Tensor, output_fmt: str = "NCHW") -> Tensor:
    """Gives the backbone's maps or tokens the form of the clips or images that it was given.

    Args:
        features: The backbone's output for folded frames.
        x: The clips or images.
        output_fmt: `NHWC` for maps with their channels last.

    Shape:
        features: (B*T, C', h, w) -> (B, C', T, h, w), or (B*T, N, C') -> (B, T, N, C'); of images -> same

    Raises:
        ValueError: Features of another rank.
    """
    if x.ndim == 4:
        return features
    if features.ndim == 3:
        return split_frames(features, _frames_left(features, x))  # (B, T, N, C')
    if features.ndim != 4:
        raise ValueError(
            f"features of shape {list(features.shape)} cannot be arranged by clip; use forward(clip) for logits, or "
            "backbone.forward_features for the features of folded frames"
        )
    maps = features.permute(0, 3, 1, 2) if output_fmt == "NHWC" else features
    return unfold_clip(maps, _frames_left(maps, x))


def _frames_left(features: Tensor, x: Tensor) -> int:
    """Frames of each clip in features of folded frames: as many as x has, or fewer after strides in time."""
    if features.shape[0] == x.shape[0] * x.shape[2]:  # no division where shapes may be symbols
        return x.shape[2]
    return features.shape[0] // x.shape[0]


def unfold_all(features: Any, x: Tensor, output_fmt: str = "NCHW") -> Any:
    """The same for each tensor of a list or tuple, whatever is inside of it.

    Args:
        features: A tensor, a list or a tuple.
        x: The clips or images.
        output_fmt: `NHWC` for maps with their channels last.
    """
    if isinstance(features, (list, tuple)):
        return type(features)(unfold_all(each, x, output_fmt) for each in features)
    return unfold(features, x, output_fmt)


@register_notrace_function
def average(frames: Tensor, x: Tensor, output_fmt: str = "NCHW", causal: bool = False) -> Tensor:
    """Predictions for frames, averaged over each clip; what is not pooled is not averaged either.

    Args:
        frames: Output of the backbone's head for folded frames.
        x: The clips or images.
        output_fmt: `NHWC` for maps with their channels last.
        causal: Add up frame by frame, as a stream of them does, to the last bit.

    Shape:
        frames: (B*T, K) -> (B, K)
    """
    if x.ndim == 4:
        return frames
    if frames.ndim != 2:
        return unfold(frames, x, output_fmt)
    length = _frames_left(frames, x)
    clips = split_frames(frames, length)  # (B, T, K)
    return clips.cumsum(1)[:, -1] / length if causal else clips.mean(1)
