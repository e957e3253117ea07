"""The ways to run a model that are measured: eager, compiled, folded, in ONNX Runtime, frame by frame, in training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.deploy.export import export
from timm_video_psn.deploy.fold import fold
from timm_video_psn.deploy.formats import FORMATS
from timm_video_psn.deploy.stream import Stream
from timm_video_psn.layers.registry import TEMPORAL_MODULES, temporal_settings
from timm_video_psn.losses import auxiliary_losses
from timm_video_psn.models import ExternalVideoNet, VideoNet, create_model, is_external
from timm_video_psn.models.create import check_model_name

MODES = ("eager", "compiled", "cudagraphs", "folded", "folded-compiled", "folded-cudagraphs", "onnx", "stream")
TRAINING_MODES = ("eager", "compiled")
_ALPHA, _BETA = 0.01, 0.001  # weights of the paper's two losses


@dataclass(frozen=True)
class Setting:
    """What is the same for all models.

    Attributes:
        num_frames: Frames of a clip.
        img_size: Side of the frames in pixels.
        batch_size: Clips at once.
        num_classes: classes.
        device: Where the models run.
        dtype: Number format; in training the one of autocast.
    """

    num_frames: int = 8
    img_size: int = 224
    batch_size: int = 1
    num_classes: int = 174
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    def clip(self, batch_size: int | None = None) -> Tensor:
        """Random clips as a loader lays them out: (B, C, T, H, W) whose memory runs B, T, H, W, C."""
        shape = (batch_size or self.batch_size, self.num_frames, self.img_size, self.img_size, 3)
        return torch.randn(shape, device=self.device).permute(0, 4, 1, 2, 3)


class FrameByFrame(nn.Module):
    """An image model on the frames of clips, as TSN has it.

    Args:
        model: A timm image model.

    Shape:
        x: (B, C, T, H, W) -> (B, num_classes)
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The average of the frames' logits."""
        frames = x.transpose(1, 2)
        logits: Tensor = self.model(frames.flatten(0, 1))
        return logits.unflatten(0, frames.shape[:2]).mean(1)


def create(name: str, setting: Setting, **kwargs: Any) -> nn.Module:
    """A model with random weights, in channels_last memory on its device.

    Args:
        name: A name of timm, of a video or an image model, `torchvision:NAME`, `transformers:REPO`, or the folder or
            repository of a saved video model as `local-dir:FOLDER` or `hf-hub:REPO`.
        setting: See there.
        **kwargs: Further arguments of a video model.

    Raises:
        ValueError: There is no model of that name, or it takes no such clips.
    """
    if ":" in name:
        check_model_name(name)
    elif not timm.is_model(name.partition(".")[0]):
        raise ValueError(f"{name} is not a timm model; timm.list_models('psn_*') lists this package's models")
    if is_external(name):
        kwargs |= {"num_frames": setting.num_frames, "img_size": setting.img_size}
    model = create_model(name, num_classes=setting.num_classes, **kwargs)
    if isinstance(model, VideoNet):
        model.set_num_frames(setting.num_frames)
    elif not isinstance(model, ExternalVideoNet):
        model = FrameByFrame(model)
    return model.to(setting.device, memory_format=torch.channels_last)


def evaluation(name: str, mode: str, setting: Setting, merge: bool | None = None) -> Callable[[Tensor], Any]:
    """A function of clips that evaluates a model.

    Args:
        name: See `create`.
        mode: One of `MODES`.
        setting: See there.
        merge: See `fold`.

    Raises:
        ValueError: The model, or this machine, has no such mode.
    """
    if mode == "stream":
        return _stream(name, setting)
    model = create(name, setting).eval().requires_grad_(False)
    if mode.startswith(("folded", "onnx")) and not isinstance(model, VideoNet):
        raise ValueError(f"mode {mode} is for the models of this package, not for {name}")
    if mode == "onnx":
        return _onnx(model, setting)
    if mode.startswith("folded"):
        model = fold(model, merge=merge, example=setting.clip(1))
    call: Any = model.to(setting.dtype)
    if mode.endswith("compiled"):
        call = torch.compile(call)
    if mode.endswith("cudagraphs"):
        call = torch.compile(call, mode="reduce-overhead")

    def run(clip: Tensor) -> Any:
        with torch.inference_mode():
            return call(clip.to(setting.dtype))

    return run


def training(name: str, mode: str, setting: Setting) -> Callable[[Tensor], None]:
    """A function of clips that is a step of training: forward, the paper's losses, backward, SGD.

    Args:
        name: See `create`.
        mode: One of `TRAINING_MODES`.
        setting: See there.
    """
    model = create(name, setting).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    run = torch.compile(model) if mode == "compiled" else model
    autocast = torch.autocast(setting.device.type, setting.dtype, enabled=setting.dtype != torch.float32)

    def step(clip: Tensor) -> None:
        labels = torch.zeros(len(clip), dtype=torch.long, device=clip.device)
        with autocast:
            loss = F.cross_entropy(run(clip), labels)
        extra = auxiliary_losses(model) if isinstance(model, VideoNet) else {}
        if extra:
            loss = loss + _ALPHA * extra["interaction"] + _BETA * extra["capacity"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _onnx(model: Any, setting: Setting) -> Callable[[Tensor], Any]:
    """The folded model in ONNX Runtime on the CPU."""
    if setting.device.type != "cpu" or setting.dtype != torch.float32:
        raise ValueError("mode onnx is for --device cpu and float32")
    with tempfile.TemporaryDirectory() as folder:
        exported = export(model, Path(folder) / "model", "onnx", img_size=setting.img_size)
        return FORMATS["onnx"].open(exported.file)


def _stream(name: str, setting: Setting) -> Callable[[Tensor], Any]:
    """The causal form of a model, one frame a call."""
    temporal = name.partition("_")[0]
    is_known = temporal in TEMPORAL_MODULES and (temporal == "tsn" or "causal" in temporal_settings(temporal))
    if not is_known:
        raise ValueError(f"{name} has no causal form to stream; psn_*, tsm_*, gsm_* and tsn_* do")
    model = create(name, setting, **({} if temporal == "tsn" else {"causal": True})).eval()
    assert isinstance(model, VideoNet)
    folded = fold(model, example=setting.clip(1)).to(setting.dtype)
    streams: dict[int, Stream] = {}  # by their number, which a stream keeps

    def run(clip: Tensor) -> Any:
        stream = streams.setdefault(len(clip), Stream(folded))
        return stream.step(clip[:, :, 0].to(setting.dtype))

    return run
