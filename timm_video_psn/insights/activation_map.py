"""Class activation maps of a clip: where, and in which frames, a layer speaks for a class.

Grad-CAM (Selvaraju et al., 2017) and HiResCAM (Draelos and Carin, 2020), with the clip in mind: our networks fold
frames into the batch, so that the maps of a layer are unfolded first, and Grad-CAM's weights are means over the whole
clip, not over each frame. pytorch-grad-cam pairs the batch of a layer with the batch of the input, and Captum averages
frame by frame; neither fits folded frames, hence these few lines.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.engine.trained_model import SampledClip
from timm_video_psn.insights.films import save_film
from timm_video_psn.layers.clip import unfold_clip
from timm_video_psn.layers.views import MAPS, MapView, View
from timm_video_psn.models import ExternalVideoNet, VideoNet
from timm_video_psn.models.backbones import feature_levels
from timm_video_psn.models.external.source import ToMaps
from timm_video_psn.plotting import new_figure, plain, save_figure

Method = Literal["gradcam", "hirescam"]
_SHOWN_PX = 256  # height of a frame in a film, at least
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue
_MAP = "turbo"


@dataclass(frozen=True)
class ActivationMap:
    """Maps of one clip and one class.

    Attributes:
        maps: (T, h, w), zero or more, in the units of the method; comparable between the frames.
        label: Number of the class.
        logit: Score of the class.
        layer: Name of the layer.
    """

    maps: np.ndarray
    label: int
    logit: float
    layer: str

    def enlarged(self, height: int, width: int) -> np.ndarray:
        """The maps at the size of the frames, as shares of the largest value in the clip, (T, height, width)."""
        maps = torch.from_numpy(self.maps)[:, None]
        large = F.interpolate(maps, (height, width), mode="bicubic", align_corners=False)[:, 0]
        return (large / max(float(self.maps.max()), 1e-12)).clamp(0, 1).numpy()


def activation_map(
    model: nn.Module,
    clip: Tensor,
    label: int | None = None,
    layer: str | None = None,
    method: Method = "gradcam",
) -> ActivationMap:
    """Computes the class activation maps of a clip.

    Args:
        model: Clips to logits; it is put into evaluation mode.
        clip: Normalised clip.
        label: Number of the class; None for the most likely one.
        layer: Name of a feature level (`layer4`, `blocks.9`, ...), or dotted name of a module that gives maps; None
            for the last level that the class depends on (a class token's network reads nothing else of its last level).
        method: `gradcam` or `hirescam`. With nothing but pooling and a linear layer behind the layer, as after a
            ResNet's last level, both are the same.

    Shape:
        clip: (1, C, T, H, W)

    Raises:
        ValueError: An unknown layer, label or method, more than one clip, or a layer that the class does not depend on.
    """
    if clip.ndim != 5 or len(clip) != 1:
        raise ValueError(f"clip of shape {list(clip.shape)}: expected one clip, (1, C, T, H, W)")
    if method not in get_args(Method):
        raise ValueError(f"method={method!r} is unknown; use one of {', '.join(get_args(Method))}")
    model.eval()
    with torch.enable_grad(), _recording(model, clip, layer) as recorders:
        logits = model(clip.detach().requires_grad_())[0].float()
        label = _checked_label(label, logits)
        recorded = {name: recorder.output for name, recorder in recorders.items() if recorder.output is not None}
        if not recorded:
            raise ValueError(
                f"layer={layer!r} was not called in the forward pass of {type(model).__name__}; use another one"
            )
        gradients = torch.autograd.grad(logits[label], list(recorded.values()), allow_unused=True)
    for (name, values), gradient in reversed(list(zip(recorded.items(), gradients, strict=True))):
        if gradient is None:
            continue
        maps, slopes = (recorders[name].as_clip(each, clip) for each in (values, gradient))
        if slopes.any():
            found = _at_every_frame(_combine(maps, slopes, method), clip.shape[2])
            return ActivationMap(found.cpu().numpy(), label, float(logits[label].detach()), name)
    raise ValueError(
        f"class {label} does not depend on layer {' or '.join(recorded)}: all gradients are zero; use an earlier layer"
    )


def _combine(maps: Tensor, gradient: Tensor, method: Method) -> Tensor:
    """ReLU of the weighted sum over channels; (C, T, h, w) twice -> (T, h, w)."""
    weights = gradient.mean((1, 2, 3), keepdim=True) if method == "gradcam" else gradient
    return (weights * maps.detach()).sum(0).relu().float()


def _at_every_frame(maps: Tensor, num_frames: int) -> Tensor:
    """The maps (t, h, w) of a network that has fewer of them than frames, as (T, h, w)."""
    if len(maps) == num_frames:
        return maps
    return F.interpolate(maps[None, None], (num_frames, *maps.shape[1:]), mode="trilinear")[0, 0]


def _checked_label(label: int | None, logits: Tensor) -> int:
    if label is None:
        return int(logits.argmax())
    if not 0 <= label < len(logits):
        raise ValueError(f"class {label} asked for; the model has {len(logits)}, from 0 to {len(logits) - 1}")
    return label


class _Recorder(nn.Module):
    """Keeps what it is shown, and passes on a copy, so that what works in place leaves it as it was.

    Args:
        to_maps: What turns the output of another library's layer into maps (B, C, t, h, w).
    """

    output: Tensor | None = None

    def __init__(self, to_maps: ToMaps | None = None):
        super().__init__()
        self.to_maps = to_maps

    def forward(self, x: Tensor) -> Tensor:
        self.output = x
        return x.clone()

    def as_clip(self, output: Tensor, clip: Tensor) -> Tensor:
        """Folded maps (T, C, h, w), the maps of a 3D network (1, C, t, h, w) or tokens, as (C, t, h, w)."""
        if self.to_maps is not None:
            return self.to_maps(output, clip.shape)[0]
        return (unfold_clip(output, clip.shape[2]) if output.ndim == 4 else output)[0]


@contextmanager
def _recording(model: nn.Module, clip: Tensor, layer: str | None) -> Iterator[dict[str, _Recorder]]:
    """While the block runs, what the layers pass on is recorded; all feature levels where no layer is named."""
    recorders, handles = {}, []
    try:
        for name, (module, view) in _layers(model, layer).items():
            if isinstance(view, View):
                recorders[name] = _Recorder()
                hook = _hook(recorders[name], view, clip)
            else:
                recorders[name] = _Recorder(view)
                hook = partial(_record_first, recorders[name])
            handles.append(module.register_forward_hook(hook))
        yield recorders
    finally:
        for handle in handles:
            handle.remove()


def _hook(recorder: _Recorder, view: View, clip: Tensor) -> Any:
    """A forward hook that shows the recorder the output as maps (B*T, C, h, w), whatever the layout of the network."""
    shown = _first_part(view).build(lambda channels: recorder, 0)
    for part in shown.modules():
        if isinstance(part, MapView):
            part.image_size = (clip.shape[-2], clip.shape[-1])

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        tensor = output[view.items[0][0]] if view.items else output
        if not isinstance(tensor, Tensor) or tensor.ndim not in ((4, 5) if view.kind == "NCHW" else (3, 4)):
            kind = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"the output of this layer, {kind}, is not a map; use a feature level")
        return shown(output)

    return hook


def _record_first(recorder: _Recorder, module: nn.Module, args: Any, output: Any) -> Any:
    """A forward hook that shows the recorder the output, or the first item of a tuple."""
    return (recorder(output[0]), *output[1:]) if isinstance(output, tuple) else recorder(output)


def _first_part(view: View) -> View:
    """Of several maps that are passed on at once, the first, which is the largest."""
    return view if view.items is None else View(view.kind, view.prefix, view.order, view.items[:1])


def _layers(model: nn.Module, layer: str | None) -> dict[str, tuple[nn.Module, View | ToMaps]]:
    """The modules to record, by name, and how their outputs are maps."""
    levels: dict[str, tuple[nn.Module, View | ToMaps]] = {}
    if isinstance(model, VideoNet):
        known = feature_levels(model.backbone)
        levels = {place.site: (model.backbone.get_submodule(place.target), place.view) for place in known}
    elif isinstance(model, ExternalVideoNet):
        levels = {name: (model.get_submodule(name), to_maps) for name, to_maps in model.levels.items()}
    if layer is None and levels:
        return levels
    if layer in levels:
        return {layer: levels[layer]}
    modules = dict(model.named_modules())
    if layer and layer in modules:
        return {layer: (modules[layer], MAPS)}
    raise ValueError(
        f"layer={layer!r} is neither a feature level of {type(model).__name__} ({', '.join(levels) or 'it has none'}) "
        "nor the name of a module"
    )


def overlay(sampled: SampledClip, found: ActivationMap) -> np.ndarray:
    """The frames in grey with their maps over them, the only colours: warmer is more, and grey is nothing.

    Args:
        sampled: Frames of the clip.
        found: Maps of the clip.

    Returns:
        uint8 (T, H, W, 3).
    """
    from matplotlib import colormaps

    grey = sampled.frames.numpy() @ _LUMA / 255.0  # (T, H, W)
    shares = found.enlarged(*grey.shape[1:])
    colours = colormaps[_MAP](shares)[..., :3]
    weight = 0.65 * shares[..., None]
    return np.rint(255 * ((1 - weight) * grey[..., None] + weight * colours)).astype(np.uint8)


def draw_activation_map(sampled: SampledClip, found: ActivationMap, path: Path, title: str = "") -> Path:
    """Draws the frames of a clip, and below each its map over it.

    Args:
        sampled: Frames of the clip.
        found: Maps of the clip.
        path: The PNG file.
        title: Text above the picture.
    """
    from matplotlib.cm import ScalarMappable

    covered, count = overlay(sampled, found), len(sampled.indices)
    figure = new_figure(1.25 * count + 0.8, 3.1)
    axes = figure.subplots(2, count, squeeze=False)
    for column, index in enumerate(sampled.indices.tolist()):
        axes[0, column].imshow(sampled.frames[column].numpy())
        axes[1, column].imshow(covered[column])
        axes[0, column].set_title(f"frame {index}", fontsize=8)
        for axis in axes[:, column]:
            axis.set_axis_off()
    bar = figure.colorbar(ScalarMappable(cmap=_MAP), ax=list(axes[1]), fraction=0.02, pad=0.01)
    bar.set_label("of the largest", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(plain(title) or f"class {found.label}, {found.layer}", fontsize=9)
    return save_figure(figure, path)


def film_activation_map(sampled: SampledClip, found: ActivationMap, path: Path, fps: float = 4.0) -> Path:
    """Writes the frames beside the frames with their maps as a film.

    Args:
        sampled: Frames of the clip.
        found: Maps of the clip.
        path: The .mp4 file.
        fps: Frames of the clip that are shown in a second.
    """
    height, width = sampled.frames.shape[1:3]
    factor = max(1.0, _SHOWN_PX / height)
    frames = sampled.frames.permute(0, 3, 1, 2).float()  # (T, 3, H, W)
    large = F.interpolate(frames, (round(factor * height), round(factor * width)), mode="bicubic", align_corners=False)
    sampled = replace(sampled, frames=large.round().clamp(0, 255).byte().permute(0, 2, 3, 1))  # (T, H', W', 3)
    return save_film(np.concatenate([sampled.frames.numpy(), overlay(sampled, found)], axis=2), path, fps)
