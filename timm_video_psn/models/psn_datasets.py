"""The Perceptron Synthesis Network for a data set by name: `psn_<backbone>_<data set>` (Tables 4 to 6).

The name fixes the number of classes and the frames of a clip, and it stands for video weights: `pretrained=True`
loads those that the list of published weights has, and never falls back to ImageNet weights.
"""

from typing import Any, NamedTuple

from timm.models import (
    generate_default_cfgs,
    get_pretrained_cfg,
    register_model,
    resolve_pretrained_cfg,
)

from timm_video_psn.models.create import create_named, has_weights, video_cfg
from timm_video_psn.models.published_weights import (
    NAMESPACE_VARIABLE,
    Published,
    find_published,
    read_manifest,
    saved_settings,
)
from timm_video_psn.models.video_net import VideoNet


class _Dataset(NamedTuple):
    """What a data set fixes: its title, classes, and the frames of a clip in the paper."""

    title: str
    num_classes: int
    num_frames: int


_DATASETS = {
    "sthv1": _Dataset("Something-Something V1", 174, 8),
    "sthv2": _Dataset("Something-Something V2", 174, 8),
    "k400": _Dataset("Kinetics-400", 400, 8),
    "diving48": _Dataset("Diving48", 48, 16),
}

_PUBLISHED = read_manifest()


def _cfg(name: str, backbone: str, dataset: str) -> dict[str, Any]:
    """A name's cfg: timm lists it among the pretrained ones if its weights are published."""
    published = _PUBLISHED.get(name)
    where = {"hf_hub_id": published.hub_id} if published else {}
    return video_cfg(backbone, num_classes=_DATASETS[dataset].num_classes, **where)


default_cfgs = generate_default_cfgs(
    {
        f"psn_{backbone}_{dataset}": _cfg(f"psn_{backbone}_{dataset}", f"{backbone}.tv_in1k", dataset)
        for backbone in ("resnet18", "resnet50", "resnet101")
        for dataset in _DATASETS
    }
)


def _create(variant: str, pretrained: bool, kwargs: dict[str, Any]) -> VideoNet:
    """Builds a model whose name is psn_<backbone>_<data set>."""
    _, architecture, name = variant.split("_")
    dataset, backbone = _DATASETS[name], f"{architecture}.tv_in1k"
    overlay = kwargs.get("pretrained_cfg_overlay") or {}
    by_name = kwargs.get("pretrained_cfg") is None and not _SOURCES & overlay.keys()
    if kwargs.get("pretrained_cfg") is None:
        other = kwargs.get("backbone", backbone)  # another tag has its own normalisation
        cfg = get_pretrained_cfg(variant) if other == backbone else None
        kwargs["pretrained_cfg"] = cfg or video_cfg(other, num_classes=dataset.num_classes)
    if pretrained and by_name:
        published = find_published(variant)
        if published is None:
            raise ValueError(_no_weights(variant, architecture, name))
        return _create_published(variant, published, backbone, kwargs)
    cfg = resolve_pretrained_cfg(variant, kwargs["pretrained_cfg"], overlay)
    if pretrained and not has_weights(cfg):
        raise ValueError(_no_weights(variant, architecture, name))
    return create_named(variant, pretrained, backbone, "psn", {"num_frames": dataset.num_frames, **kwargs})


_SOURCES = {"file", "url", "state_dict", "hf_hub_id"}  # entries of a cfg that say where weights are


def _create_published(variant: str, published: Published, backbone: str, kwargs: dict[str, Any]) -> VideoNet:
    """Builds a model as its published weights need it, and load them."""
    cfg, model_args = saved_settings(variant, published, kwargs.get("cache_dir"))
    kwargs.update(pretrained_cfg=cfg, pretrained_model_args=model_args, weights_sha256=published.sha256)
    model = create_named(variant, True, backbone, "psn", {**model_args, **kwargs})
    model._model_args = model_args  # what timm writes on saving, with the arguments of its own caller
    return model


def _no_weights(variant: str, architecture: str, name: str) -> str:
    """The message for weights that nobody has published."""
    return (
        f"{variant} with pretrained=True needs weights trained on {_DATASETS[name].title}, but none are published.\n"
        f"  Train them: timm-video-psn train --model {variant} --dataset {name} --data-dir DIR "
        "--model-kwargs backbone_pretrained=true (the backbone then starts from ImageNet weights; no --pretrained).\n"
        f"  Load them: create_model('local-dir:output/{variant}-{name}/best', pretrained=True), or "
        f"create_model('{variant}', pretrained=True, pretrained_cfg_overlay=dict(file='model.safetensors')).\n"
        "  Publish the folder best/ (hub/README.md), and load it from the Hub: "
        "create_model('hf-hub:USER/NAME', pretrained=True), or pretrained_cfg_overlay=dict(hf_hub_id='USER/NAME').\n"
        f"  With {NAMESPACE_VARIABLE}=USER in the environment, this name loads USER/{variant} from the Hub.\n"
        f"  Load only ImageNet weights, into the backbone: create_model('{variant}', backbone_pretrained=True), or "
        f"create_model('psn_{architecture}', pretrained=True)."
    )


@register_model
def psn_resnet18_sthv1(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-18 for Something-Something V1."""
    return _create("psn_resnet18_sthv1", pretrained, kwargs)


@register_model
def psn_resnet18_sthv2(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-18 for Something-Something V2."""
    return _create("psn_resnet18_sthv2", pretrained, kwargs)


@register_model
def psn_resnet18_k400(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-18 for Kinetics-400."""
    return _create("psn_resnet18_k400", pretrained, kwargs)


@register_model
def psn_resnet18_diving48(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-18 for Diving48."""
    return _create("psn_resnet18_diving48", pretrained, kwargs)


@register_model
def psn_resnet50_sthv1(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-50 for Something-Something V1."""
    return _create("psn_resnet50_sthv1", pretrained, kwargs)


@register_model
def psn_resnet50_sthv2(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-50 for Something-Something V2."""
    return _create("psn_resnet50_sthv2", pretrained, kwargs)


@register_model
def psn_resnet50_k400(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-50 for Kinetics-400."""
    return _create("psn_resnet50_k400", pretrained, kwargs)


@register_model
def psn_resnet50_diving48(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-50 for Diving48."""
    return _create("psn_resnet50_diving48", pretrained, kwargs)


@register_model
def psn_resnet101_sthv1(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-101 for Something-Something V1."""
    return _create("psn_resnet101_sthv1", pretrained, kwargs)


@register_model
def psn_resnet101_sthv2(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-101 for Something-Something V2."""
    return _create("psn_resnet101_sthv2", pretrained, kwargs)


@register_model
def psn_resnet101_k400(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-101 for Kinetics-400."""
    return _create("psn_resnet101_k400", pretrained, kwargs)


@register_model
def psn_resnet101_diving48(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-101 for Diving48."""
    return _create("psn_resnet101_diving48", pretrained, kwargs)
