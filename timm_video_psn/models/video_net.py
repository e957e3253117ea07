"""VideoNet: a timm backbone, temporal modules inside it, and the average of its frames' predictions.

It keeps timm's model API: what a timm ResNet answers for images, a VideoNet answers for clips.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import fold_clip, split_frames
from timm_video_psn.layers.consensus import create_consensus
from timm_video_psn.layers.registry import check_settings, temporal_settings
from timm_video_psn.layers.temporal_module import TemporalModule
from timm_video_psn.models.assembly import add_temporal_modules
from timm_video_psn.models.backbones import gives_tokens
from timm_video_psn.models.frames import (
    TracedFold,
    average,
    check_scriptable,
    fold,
    fold_fixed,
    set_length,
    unfold_all,
)
from timm_video_psn.models.image_backbone import (
    classifier_name,
    create_backbone,
    drop_rate,
    init_classifier,
    set_drop_rate,
)
from timm_video_psn.models.layer_groups import group_by_layers
from timm_video_psn.surgery import injected

_PREFIX = "backbone."


class VideoNet(nn.Module):
    """A timm image model as a video classifier (Sec. "Video Perceptron Synthesis Networks").

    Frames are folded into the batch, temporal modules inside the backbone let them meet, and "the final prediction is
    a simple average pooling of the results from each frame".

    `torch.compile`, `torch.export` and timm's fx feature graphs take it as it is. TorchScript does too where the
    backbone passes on maps: a scripted model takes clips of `num_frames` frames and raises for others.

    Args:
        backbone: timm name, with or without a tag; its parameters keep timm's names under the prefix `backbone.`.
        temporal: `psn`, `tsm`, `tsn`, `gst`, `rf_s` or another (see `layers.registry`).
        num_frames: Frames T that the model is meant for. Clips of any other length work too, unless with `tam`.
        sites: Levels that get a temporal module, as `("layer2", "layer3")`; None for the module's own choice.
        backbone_pretrained: Load timm's weights into the backbone.
        backbone_checkpoint: Local file of image weights for the backbone, every name of which must fit.
        classifier_std: Start the classifier from N(0, classifier_std), as TSM's and GST's official codes do with 0.001;
            None for timm's initialisation.
        consensus: How frames come to one prediction, `average` or `trn` (see `layers.consensus`).
        consensus_features: Features of each frame that a consensus other than the average gets.
        cache_dir: timm's download folder.
        **kwargs: Settings of the temporal module; all others go to the backbone (`num_classes`, `in_chans`,
            `global_pool`, `drop_rate`, `drop_path_rate`, ...).

    Shape:
        x: (B, C, T, H, W), normalised clips, or (B, C, H, W), still images as clips of one frame -> (B, num_classes)

    Raises:
        TypeError: Neither the temporal module nor the backbone takes one of the arguments.
        ValueError: An unknown temporal module, site or setting.
    """

    sites: dict[str, str]
    if TYPE_CHECKING:  # TorchScript would take an annotation for the type of the module
        pretrained_cfg: dict[str, Any]  # set by timm's builder
        consensus: Any
        backbone: Any  # a timm model: timm has no type for what they have in common
        __jit_unused_properties__: list[str]  # the properties, which TorchScript would try to compile

    def __init__(
        self,
        backbone: str,
        temporal: str = "psn",
        num_frames: int = 8,
        sites: str | Sequence[str] | None = None,
        backbone_pretrained: bool = False,
        backbone_checkpoint: str | None = None,
        classifier_std: float | None = None,
        consensus: str = "average",
        consensus_features: int = 256,
        cache_dir: str | None = None,
        **kwargs: Any,
    ):
        super().__init__()
        _check_num_frames(num_frames)
        settings = {key: kwargs.pop(key) for key in temporal_settings(temporal) if key in kwargs}
        check_settings(temporal, settings)
        self.num_frames = num_frames
        self.causal = bool(settings.get("causal", False))
        num_classes = kwargs.get("num_classes", 1000)
        self.consensus = create_consensus(consensus, consensus_features, num_frames, num_classes)
        if self.consensus is not None:  # the backbone's classifier makes the features
            kwargs["num_classes"] = consensus_features
        self.backbone = create_backbone(
            backbone, temporal, backbone_pretrained, backbone_checkpoint, cache_dir, **kwargs
        )
        if classifier_std is not None:
            init_classifier(self.backbone, classifier_std)
        self.traced_fold = TracedFold(self.backbone)
        self._fixed_frames = 0  # the one length that a scripted model takes, 0 for any
        sites = (sites,) if isinstance(sites, str) else sites
        chosen = None if sites is None else tuple(sites)
        levels = add_temporal_modules(self.backbone, temporal, num_frames, chosen, settings)
        if self.consensus is not None and any(getattr(module, "time_stride", 1) > 1 for module in self.modules()):
            raise ValueError(
                f"consensus={consensus!r} relates all {num_frames} frames, but temporal={temporal!r} strides in time "
                "and leaves fewer; use consensus='average'"
            )
        self.sites = {site: _PREFIX + target for site, target in levels.items()}
        self.feature_info = [dict(info, module=_PREFIX + info["module"]) for info in self.backbone.feature_info]

    def set_num_frames(self, num_frames: int) -> None:
        """Sets the number of frames that the model is meant for.

        Args:
            num_frames: T, at least 1.

        Raises:
            ValueError: It is below 1, or the model is made for one number of frames (`tam`, `trn`).
        """
        _check_num_frames(num_frames)
        if self.consensus is not None:
            self.consensus.check_length(num_frames)
        set_length(self.backbone, num_frames)  # first: a temporal module may refuse
        self.num_frames = num_frames
        self._model_args = {**getattr(self, "_model_args", {}), "num_frames": num_frames}  # what timm writes on saving

    def _fold(self, x: Tensor) -> Tensor:
        """Clips or images to a batch of frames; the temporal modules learn T."""
        if torch.jit.is_scripting():
            return fold_fixed(x, self._fixed_frames)
        if isinstance(x, torch.fx.Proxy):
            return self.traced_fold(x)
        return fold(self.backbone, x)

    def __prepare_scriptable__(self) -> "VideoNet":
        """For `torch.jit.script`: the model takes clips of `num_frames` frames from here on, if that matters to it."""
        check_scriptable(self.backbone)
        set_length(self.backbone, self.num_frames)
        is_temporal = any(isinstance(module, TemporalModule) for module in self.backbone.modules())
        self._fixed_frames = self.num_frames if is_temporal else 0
        return self

    def forward_features(self, x: Tensor) -> Tensor:
        """Unpooled features of the last level.

        Shape:
            x: (B, C, T, H, W) -> (B, C', T, h, w), or (B, T, N, C') from a backbone that ends in tokens;
                (B, C, H, W) -> what the backbone returns
        """
        return unfold_all(self.backbone.forward_features(self._fold(x)), x, self._last_format())

    def _last_format(self) -> str:
        """The order of dimensions in which the backbone returns its last maps."""
        return getattr(self.backbone, "output_fmt", "NCHW")

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify every frame, and average over time.

        Args:
            x: Features as `forward_features` returns them.
            pre_logits: Return the pooled features instead of the logits.

        Shape:
            x: (B, C', T, h, w), (B, T, N, C') or features of images -> (B, num_classes), or (B, num_features) without a
                classifier; without pooling (`global_pool=""`) nothing is averaged: the shape of x
        """
        if isinstance(x, Tensor) and x.ndim == 4 and gives_tokens(self.backbone):
            frames = self.backbone.forward_head(x.flatten(0, 1), pre_logits=pre_logits)
            return split_frames(frames, x.shape[1]).mean(1) if frames.ndim == 2 else split_frames(frames, x.shape[1])
        if isinstance(x, (list, tuple)) and x[0].ndim == 4:  # tokens of clips, one item for each of several scales
            frames = self.backbone.forward_head([each.flatten(0, 1) for each in x], pre_logits=pre_logits)
            return split_frames(frames, x[0].shape[1]).mean(1)
        if not isinstance(x, Tensor) or x.ndim != 5:
            return self.backbone.forward_head(x, pre_logits=pre_logits)
        folded = fold_clip(x)
        folded = folded.permute(0, 2, 3, 1) if self._last_format() == "NHWC" else folded
        return self._combine(self.backbone.forward_head(folded, pre_logits=pre_logits), x, pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of clips or images."""
        return self._combine(self.backbone(self._fold(x)), x)

    def _combine(self, frames: Tensor, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What the head gives for folded frames as predictions for the clips or images."""
        if self.consensus is None or pre_logits:
            return average(frames, x, self._last_format(), self.causal)
        return self.consensus(split_frames(frames, x.shape[2] if x.ndim == 5 else 1))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Features of several levels, as timm's method of this name returns them.

        Args:
            x: Clips or images.
            indices: The last n levels if int, all if None, else these levels.
            norm: Apply the backbone's norm to the intermediates it fits.
            stop_early: Stop after the last level that is wanted.
            output_fmt: A format that the backbone supports, read per frame.
            intermediates_only: Leave out the final features.
            **kwargs: Further arguments of the backbone's method, as `return_prefix_tokens` and `output_dict` of a
                VisionTransformer; what they add to the result is in the form of clips too.

        Shape:
            x: (B, C, T, H, W) -> each (B, C_i, T, h_i, w_i), or (B, T, N_i, C_i) with output_fmt="NLC";
                (B, C, H, W) -> each (B, C_i, h_i, w_i)

        Raises:
            TypeError: The backbone's method does not take one of the further arguments.
        """
        known = inspect.signature(self.backbone.forward_intermediates).parameters
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            raise TypeError(
                f"forward_intermediates of {type(self.backbone).__name__} does not take {', '.join(unknown)}; "
                f"it takes {', '.join(known)}"
            )
        result = self.backbone.forward_intermediates(
            self._fold(x),
            indices=indices,
            norm=norm,
            stop_early=stop_early,
            output_fmt=output_fmt,
            intermediates_only=intermediates_only,
            **kwargs,
        )
        last = self._last_format()
        if isinstance(result, dict):
            formats = {key: last if key.endswith("_features") else output_fmt for key in result}
            return {key: unfold_all(value, x, formats[key]) for key, value in result.items()}
        if intermediates_only:
            return unfold_all(result, x, output_fmt)
        final, levels = result
        return unfold_all(final, x, last), unfold_all(levels, x, output_fmt)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the given levels do not need; synthesizers go with the layers that they follow.

        Args:
            indices: Levels to keep, as in `forward_intermediates`.
            prune_norm: Drop the final norm.
            prune_head: Drop the classifier.

        Returns:
            The indices as numbers from the first level on.
        """
        kept = self.backbone.prune_intermediate_layers(indices, prune_norm=prune_norm, prune_head=prune_head)
        alive = {_PREFIX + item.name for item in injected(self.backbone)}
        self.sites = {site: target for site, target in self.sites.items() if target in alive}
        return kept

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier, and the pooling if it is given.

        Args:
            num_classes: Classes of the new classifier; 0 for none.
            global_pool: A pooling that the backbone knows.
        """
        pool = {} if global_pool is None else {"global_pool": global_pool}
        if self.consensus is None:
            self.backbone.reset_classifier(num_classes, **pool)
        else:
            self.consensus.reset(num_classes)

    @torch.jit.ignore
    def get_classifier(self, name_only: bool = False) -> Any:
        """The classifier, or its name; of a backbone that has several, all of them.

        Args:
            name_only: Return the name.
        """
        if self.consensus is not None:
            last = tuple(f"consensus.{name}" for name in self.consensus.classifiers())
            return last if name_only else tuple(self.get_submodule(name) for name in last)
        if not name_only:
            return self.backbone.get_classifier()
        names = classifier_name(self.backbone)
        return _PREFIX + names if isinstance(names, str) else tuple(_PREFIX + name for name in names)

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade computation for memory in the backbone's blocks, synthesizers included.

        Args:
            enable: Whether gradient checkpointing is on.
        """
        self.backbone.set_grad_checkpointing(enable)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """The layer group of a parameter by its name: the backbone's own, and a temporal module is with its target.

        Args:
            coarse: Stages instead of blocks.
        """
        return group_by_layers(self.backbone, _PREFIX, coarse)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters of the backbone and of the temporal modules that want no weight decay."""
        names = set(getattr(self.backbone, "no_weight_decay", set)())
        for prefix, module in self.backbone.named_modules():
            if isinstance(module, TemporalModule):
                names |= {f"{prefix}.{name}" for name in module.no_weight_decay()}
        return {_PREFIX + name for name in names}

    @property
    def num_classes(self) -> int:
        """Classes of the classifier."""
        return self.backbone.num_classes if self.consensus is None else self.consensus.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the last level."""
        return self.backbone.num_features

    @property
    def head_hidden_size(self) -> int:
        """Features that enter the classifier."""
        return self.backbone.head_hidden_size

    @property
    def in_chans(self) -> int:
        """Channels of the input."""
        return self.backbone.in_chans

    @property
    def drop_rate(self) -> float:
        """Dropout before the classifier; may be assigned."""
        return drop_rate(self.backbone)

    @drop_rate.setter
    def drop_rate(self, value: float) -> None:
        set_drop_rate(self.backbone, value)

    @property
    def global_pool(self) -> nn.Module | str:
        """The backbone's pooling, which some families keep in their head."""
        owner = self.backbone if hasattr(self.backbone, "global_pool") else self.backbone.head
        return owner.global_pool


VideoNet.__jit_unused_properties__ = [key for key, value in vars(VideoNet).items() if isinstance(value, property)]


def _check_num_frames(num_frames: int) -> None:
    if not isinstance(num_frames, int) or num_frames < 1:
        raise ValueError(f"num_frames={num_frames!r} must be a whole number, at least 1")
