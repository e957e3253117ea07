"""The timm image model inside a VideoNet: its creation, image weights from a local file, classifiers and dropout."""

import difflib
import logging
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

from timm_video_psn.hub_files import hub_faults
from timm_video_psn.layers.registry import temporal_settings
from timm_video_psn.surgery import find_mismatch

_logger = logging.getLogger(__name__)
_NO_WEIGHTS = (RuntimeError, ValueError, KeyError, AttributeError, EOFError, pickle.UnpicklingError, SafetensorError)
_HEADS = ("head", "head_drop", "head_dist", "pre_logits")  # where timm's families keep their dropout


def create_backbone(
    name: str,
    temporal: str,
    pretrained: bool = False,
    checkpoint: str | None = None,
    cache_dir: str | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Builds the image model that temporal modules go into.

    Args:
        name: timm name, with or without a tag.
        temporal: Name of the temporal module, whose settings an error lists.
        pretrained: Load timm's weights.
        checkpoint: Local file of image weights, loaded after the others; see `load_image_weights`.
        cache_dir: timm's download folder.
        **kwargs: Arguments of the image model.

    Raises:
        ValueError: timm does not know the name, or the file does not fit.
        TypeError: Neither the temporal module nor the image model takes one of the arguments.
    """
    bare = name.partition(".")[0]
    if ":" not in name and not timm.is_model(bare):
        near = difflib.get_close_matches(bare, timm.list_models(), n=3, cutoff=0.0)
        raise ValueError(f"backbone {name!r} is unknown to timm {timm.__version__}; nearest: {', '.join(near)}")
    try:
        with hub_faults(f"the image weights of {name}"):
            backbone = timm.create_model(name, pretrained=pretrained, cache_dir=cache_dir, **kwargs)
    except TypeError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if found is None or found[1] not in kwargs:
            raise
        known = ["num_frames", "sites", *temporal_settings(temporal)]
        known += ["num_classes", "in_chans", "global_pool", "drop_rate", "drop_path_rate"]
        near = difflib.get_close_matches(found[1], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(
            f"argument {found[1]!r} belongs neither to temporal={temporal!r} ({', '.join(known[:-5])}) "
            f"nor to the backbone {name!r}{hint}"
        ) from error
    if checkpoint is not None:
        load_image_weights(backbone, checkpoint)
    return backbone


def load_image_weights(backbone: nn.Module, file: str) -> None:
    """Loads a file of image weights with the names of timm's model; torchvision's ResNets have the same names.

    Every name of the file and of the model must have its counterpart, but for the classifier: one of other classes
    keeps its random weights, and the log says so.

    Args:
        backbone: timm model without temporal modules.
        file: Safetensors file or PyTorch checkpoint; a pickle is read without executing code.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no weights, or weights of another model.
    """
    names = classifier_name(backbone)
    loaded = load_weights_file(
        backbone,
        file,
        (names,) if isinstance(names, str) else names,
        f"backbone_checkpoint={file}",
        "give image weights of the same architecture with timm's names",
    )
    _logger.info(f"backbone  {loaded}")


def load_weights_file(model: nn.Module, file: str, classifiers: Sequence[str], asked: str, remedy: str) -> str:
    """Loads a safetensors file or a PyTorch checkpoint; a pickle is read without executing code.

    Every name of the file and of the model must have its counterpart. Only a classifier of other classes may differ:
    it keeps its random weights.

    Args:
        model: Model to fill.
        file: Path of the weights.
        classifiers: Dotted names of the model's classifiers.
        asked: What asked for the file, as messages name it, such as `--initial-checkpoint weights.pt`.
        remedy: What to give instead.

    Returns:
        How much was loaded and what was left, for the log.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no weights, or weights of another model.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"{asked}: no such file; {remedy}")
    try:
        weights = load_state_dict(file, weights_only=True)
    except _NO_WEIGHTS as error:
        raise ValueError(f"{asked} holds no weights: {str(error).splitlines()[0]}; {remedy}") from error
    own, heads = model.state_dict(), tuple(f"{name}." for name in classifiers)
    ours, theirs = ({n: w.shape for n, w in state.items() if n.startswith(heads)} for state in (own, weights))

    def is_free(name: str) -> bool:
        return ours != theirs and name.startswith(heads)

    if mismatch := find_mismatch(own, weights, optional=is_free):
        raise ValueError(f"{asked} does not fit {type(model).__name__}: {mismatch}; {remedy}")
    fitting = {name: value for name, value in weights.items() if not is_free(name)}
    model.load_state_dict({**own, **fitting})
    left = f"; {', '.join(classifiers)} keeps its random weights, because its classes differ" if ours != theirs else ""
    return f"{len(fitting)} tensors of {file}{left}"


def classifier_name(backbone: Any) -> str | tuple[str, ...]:
    """The dotted name of the classifier, or of each of several.

    Args:
        backbone: A timm model.
    """
    classifier = backbone.get_classifier()
    several = isinstance(classifier, (tuple, list))
    names = tuple(
        next(name for name, module in backbone.named_modules() if module is wanted)
        for wanted in (classifier if several else [classifier])
    )
    return names if several else names[0]


def init_classifier(backbone: Any, std: float) -> None:
    """Starts the classifier from N(0, std) and a bias of zero, as the official codes of TSM, GST, GSM, TEA and TAM do.

    Args:
        backbone: A timm model.
        std: Standard deviation; the official 0.001.

    Raises:
        ValueError: The model has no classifier, or the deviation is negative.
    """
    if std < 0:
        raise ValueError(f"classifier_std={std} is negative; the official codes use 0.001")
    classifier = backbone.get_classifier()
    heads = classifier if isinstance(classifier, (tuple, list)) else [classifier]
    layers = [layer for head in heads for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise ValueError(f"classifier_std={std}: {type(backbone).__name__} has no classifier; set num_classes")
    for layer in layers:
        nn.init.normal_(layer.weight, std=std)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def drop_rate(backbone: Any) -> float:
    """The dropout before the classifier: a module's rate, or the number that the model's forward reads.

    Args:
        backbone: A timm model.
    """
    dropouts = _dropouts(backbone)
    return dropouts[0].p if dropouts else getattr(backbone, "drop_rate", 0.0)


def set_drop_rate(backbone: Any, value: float) -> None:
    """Changes the dropout before the classifier.

    Args:
        backbone: A timm model.
        value: The rate, in [0, 1).

    Raises:
        ValueError: The rate is out of range, or the head has no dropout that could be changed.
    """
    if not 0 <= value < 1:
        raise ValueError(f"drop_rate={value} is not in [0, 1)")
    dropouts = _dropouts(backbone)
    if not dropouts and not hasattr(backbone, "drop_rate"):
        raise ValueError(
            f"drop_rate={value}: the head of {type(backbone).__name__} was built without a dropout; "
            f"build the model with drop_rate={value}"
        )
    for module in dropouts:
        module.p = value
    if hasattr(backbone, "drop_rate"):
        backbone.drop_rate = value


def _dropouts(backbone: nn.Module) -> list[nn.Dropout]:
    """The dropouts of the head, where it has modules for them."""
    return [
        module
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Dropout) and name.partition(".")[0] in _HEADS
    ]
