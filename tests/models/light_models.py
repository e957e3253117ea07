"""Small models of every kind, and which of them do what: for the tests of this folder."""

import timm
import torch
from torch import nn

from timm_video_psn import VideoNet
from timm_video_psn.layers.temporal_module import TemporalModule

MODULES = ("psn", "psn_datasets", "video_baselines", "create")
# Systems on networks of their own, and with strides in time: test_video_baselines.py has a contract for them.
COMPARED = {"gsm_inception_v3": {}}
for _name in ("tea_res2net50_26w_4s", "tea_16w_resnet50", "tea_resnet50", "stm_resnet50", "trn_resnet50"):
    COMPARED[_name] = {"layers": (1, 1, 2, 1)}
for _name in ("i3d_resnet50", "i3d_nl_resnet101", "slow_resnet50", "c3d_resnet50"):
    COMPARED[_name] = {"layers": (1, 2, 2, 1)}
for _name in ("p3d_resnet50", "r2plus1d_resnet34", "eco_resnet18", "corr_resnet101"):
    COMPARED[_name] = {"layers": (1, 1, 2, 1)}
NAMES = sorted(name for module in MODULES for name in timm.list_models(module=module) if name not in COMPARED)

LIGHT = {
    "psn_test_resnet": {"model_name": "psn_test_resnet", "proportion": 0.5},
    "tsm_test_resnet": {"model_name": "tsm_test_resnet"},
    "tsn_test_resnet": {"model_name": "tsn_test_resnet"},
    "video_net on test_resnet": {"model_name": "video_net", "backbone": "test_resnet"},
    "video_net on test_convnext": {"model_name": "video_net", "backbone": "test_convnext", "proportion": 0.5},
    "video_net on test_efficientnet": {"model_name": "video_net", "backbone": "test_efficientnet", "proportion": 0.5},
}
RESNETS = [label for label in LIGHT if label.endswith("test_resnet")]


def build(label: str, **kwargs) -> VideoNet:
    """A light model of five classes, in evaluation mode; its synthesizers, if any, already act."""
    if has_synthesizers(label):
        kwargs.setdefault("expand_init", 1.0)
    return timm.create_model(**LIGHT[label], **{"num_classes": 5, "num_frames": 4, **kwargs}).eval()


def has_synthesizers(label: str) -> bool:
    return not label.startswith(("tsm", "tsn"))


def settle(model: VideoNet, clip: torch.Tensor) -> VideoNet:
    """The model as if it had been trained: nothing in it is zero any more, and its norms know what comes.

    Blocks that start as an identity would hide what is inside of them, and give it no gradient.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None  # the plain average of all batches, here of one
        model.train()(clip)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model.eval()


def temporal_modules(model: nn.Module) -> dict[str, TemporalModule]:
    return {name: module for name, module in model.named_modules() if isinstance(module, TemporalModule)}
