"""Other libraries' video networks with the API of a VideoNet: `torchvision:NAME` and `transformers:REPO`."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model, resolve_pretrained_cfg
from torch import Tensor, nn

from timm_video_psn.models.create import check_size, has_weights
from timm_video_psn.models.external import torchvision_source, transformers_source
from timm_video_psn.models.external.source import Source
from timm_video_psn.models.external.torchvision_source import open_torchvision
from timm_video_psn.models.external.transformers_source import open_transformers
from timm_video_psn.models.published_weights import pin_weights, weights_file
from timm_video_psn.saved_config import value_faults

_OPEN: dict[str, Callable[..., Source]] = {
    torchvision_source.PREFIX: open_torchvision,
    transformers_source.PREFIX: open_transformers,
}
_NO_DECAY = re.compile(r"token|pos_embed|pos_encoding|position_embedding|time_embedding|relative_position")
_ARCHITECTURE = "external_video_net"


def is_external(name: str) -> bool:
    """Whether a model name stands for another library's network.

    Args:
        name: Name of a model.
    """
    return name.startswith(tuple(_OPEN))


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> Any:
    """Creates a model as `timm.create_model` does, and also `torchvision:NAME` and `transformers:REPO`.

    Args:
        name: Name of a model; for transformers, REPO is a repository on the Hub or a local folder.
        pretrained: Load weights; for another library's network, the weights that the library offers.
        **kwargs: Arguments of the model.

    Example:
        >>> create_model("torchvision:r3d_18", num_classes=12)(torch.zeros(1, 3, 8, 64, 64)).shape
        torch.Size([1, 12])
    """
    if is_external(name):
        return timm.create_model(_ARCHITECTURE, pretrained, source=name, **kwargs)
    return timm.create_model(name, pretrained, **kwargs)


class ExternalVideoNet(nn.Module):
    """Another library's video network, with the methods of a VideoNet that training, tests and insights use.

    The parameters of the network keep their names under the prefix `network.`; its classifier is `classifier`.

    Args:
        source: The network and what its library says of it.
        num_classes: Classes; None for the network's own.
        drop_rate: Dropout before the classifier.

    Shape:
        x: (B, C, T, H, W), normalised clips, or (B, C, H, W), clips of one frame -> (B, num_classes)
    """

    sites: dict[str, str]
    pretrained_cfg: dict[str, Any]  # set by timm's builder

    def __init__(self, source: Source, num_classes: int | None = None, drop_rate: float = 0.0):
        super().__init__()
        self.source = source.name
        self.num_frames, self.fixed_frames = source.num_frames, source.fixed_frames
        self.frames_first, self.levels = source.frames_first, source.levels
        self.rebuild_args = {"source": source.name, **source.arguments}
        self.sites, self.causal, self.in_chans = {}, False, 3
        self.network: Any = source.network
        self.head_drop = nn.Dropout(drop_rate)
        self.classifier: nn.Module = source.classifier
        self.num_features = self.head_hidden_size = source.classifier.in_features
        self.num_classes = source.classifier.out_features
        if num_classes not in (None, self.num_classes):
            self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Pooled features.

        Shape:
            x: (B, C, T, H, W) -> (B, D)
        """
        x = x[:, :, None] if x.ndim == 4 else x
        if x.ndim != 5 or x.shape[1] != self.in_chans:
            raise ValueError(f"clips are (B, {self.in_chans}, T, H, W); got {tuple(x.shape)}")
        if self.fixed_frames and x.shape[2] != self.num_frames:
            raise ValueError(
                f"{self.source} takes clips of {self.num_frames} frames, and was given {x.shape[2]}; build it with "
                f"num_frames={x.shape[2]}"
            )
        features: Tensor = self.network(x.transpose(1, 2) if self.frames_first else x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classifies features.

        Args:
            x: Features of `forward_features`.
            pre_logits: Return them as they enter the classifier.
        """
        x = self.head_drop(x)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.forward_head(self.forward_features(x))

    def to(self, *args: Any, memory_format: torch.memory_format | None = None, **kwargs: Any) -> "ExternalVideoNet":
        """Moves the model; channels_last, which torch refuses for 3D convolutions, changes nothing.

        Args:
            *args: See `torch.nn.Module.to`.
            memory_format: Layout of the weights.
            **kwargs: See `torch.nn.Module.to`.
        """
        if memory_format not in (None, torch.channels_last):
            kwargs["memory_format"] = memory_format
        return super().to(*args, **kwargs) if args or kwargs else self

    def reset_classifier(self, num_classes: int | None) -> None:
        """Replaces the classifier.

        Args:
            num_classes: Classes of the new one; 0 for none.
        """
        self.num_classes = num_classes or 0
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self, name_only: bool = False) -> Any:
        """The classifier, or its name.

        Args:
            name_only: Return the name.
        """
        return "classifier" if name_only else self.classifier

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades computation for memory, where the library can.

        Args:
            enable: Whether gradient checkpointing is on.

        Raises:
            ValueError: The library has no gradient checkpointing.
        """
        if hasattr(self.network, "set_grad_checkpointing"):
            self.network.set_grad_checkpointing(enable)
        elif enable:
            raise ValueError(f"{self.source} has no gradient checkpointing; leave it out, or use a smaller batch")

    def no_weight_decay(self) -> set[str]:
        """Tokens and embeddings of positions."""
        return {name for name, _ in self.named_parameters() if _NO_DECAY.search(name)}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """The layer of a parameter by its name: numbered blocks in the order of the network, the classifier last.

        Args:
            coarse: Stages instead of blocks, where the network has stages of blocks.
        """
        depth = 1 if coarse else 2
        layers: dict[str, int] = {}
        for name, _ in self.network.named_parameters():
            layers.setdefault(_layer(name, depth), len(layers))
        return lambda name: layers.get(_layer(name.removeprefix("network."), depth), float("inf"))


def _layer(name: str, depth: int) -> str:
    """The block of a parameter: its name up to the first numbers, or the first part of a name without any."""
    found = re.match(rf"\D*\d+\b(\.\d+){{0,{depth - 1}}}(?=\.)", name)
    return found[0] if found else name.rpartition(".")[0] or name


default_cfgs = generate_default_cfgs({_ARCHITECTURE: {}})


@register_model
def external_video_net(
    pretrained: bool = False,
    *,
    source: str = "",
    num_frames: int | None = None,
    img_size: int | None = None,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    pretrained_model_args: dict[str, Any] | None = None,
    weights_sha256: str | None = None,
    cache_dir: str | None = None,
    num_classes: int | None = None,
    drop_rate: float = 0.0,
    in_chans: int = 3,
    **kwargs: Any,
) -> ExternalVideoNet:
    """Another library's video network: `source` is `torchvision:NAME` or `transformers:REPO`."""
    if in_chans != 3:
        raise ValueError(f"in_chans={in_chans} asked for; {source} takes 3")
    if not is_external(source):
        raise ValueError(f"source={source!r} names no library; use {' or '.join(f'{prefix}NAME' for prefix in _OPEN)}")
    given = None if pretrained_cfg is None else resolve_pretrained_cfg(_ARCHITECTURE, pretrained_cfg)
    saved = pretrained and given is not None and has_weights(given)
    if saved:
        pinned = pin_weights(given, pretrained_cfg_overlay, cache_dir, weights_sha256)
        pretrained_cfg_overlay = {**(pretrained_cfg_overlay or {}), **pinned}
    prefix = next(each for each in _OPEN if source.startswith(each))
    open_source = partial(_OPEN[prefix], source, num_frames=num_frames, img_size=img_size, **kwargs)
    if pretrained_model_args:
        _check_saved(pretrained_model_args, source)
    if saved:
        pinned_cfg = resolve_pretrained_cfg(_ARCHITECTURE, pretrained_cfg, pretrained_cfg_overlay)
        check_size(lambda: open_source().network, weights_file(pinned_cfg, cache_dir))
    opened = open_source(pretrained and not saved)
    model = build_model_with_cfg(
        lambda **rest: ExternalVideoNet(opened, **rest),
        _ARCHITECTURE,
        saved,
        pretrained_cfg=pretrained_cfg if saved else {**opened.cfg, "classifier": "classifier"},
        pretrained_cfg_overlay=pretrained_cfg_overlay,
        kwargs_filter=("in_chans", "global_pool", "img_size"),
        num_classes=opened.classifier.out_features if num_classes is None else num_classes,
        drop_rate=drop_rate,
    )
    model.sampling = opened.sampling if pretrained and not saved else None
    return model


def _check_saved(arguments: Mapping[str, Any], source: str) -> None:
    """Raises where the `model_args` of a config.json have a library look for files, or hold what no network takes."""
    faults = list(value_faults(arguments, ""))
    if source.startswith(transformers_source.PREFIX) and not isinstance(arguments.get("config"), dict):
        faults.append(f"config is missing, and {source} would be read in its place")
    if faults:
        raise ValueError(f"the saved arguments of {source} cannot be used: {'; '.join(faults)}")
