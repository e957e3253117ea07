"""The head of a timm model, whatever its family calls it: the names of its classifiers, and its dropout."""

from typing import Any

from torch import nn

_HEADS = ("head", "head_drop", "head_dist", "pre_logits")  # where timm's families keep their dropout


def classifier_name(backbone: Any) -> str | tuple[str, ...]:
    """The dotted name of the classifier, or of each of several.

    Args:
        backbone: a timm model.
    """
    classifier = backbone.get_classifier()
    several = isinstance(classifier, (tuple, list))
    names = tuple(
        next(name for name, module in backbone.named_modules() if module is wanted)
        for wanted in (classifier if several else [classifier])
    )
    return names if several else names[0]


def drop_rate(backbone: Any) -> float:
    """The dropout before the classifier: a module's rate, or the number that the model's forward reads.

    Args:
        backbone: a timm model.
    """
    dropouts = _dropouts(backbone)
    return dropouts[0].p if dropouts else getattr(backbone, "drop_rate", 0.0)


def set_drop_rate(backbone: Any, value: float) -> None:
    """Change the dropout before the classifier.

    Args:
        backbone: a timm model.
        value: the rate, in [0, 1).

    Raises:
        ValueError: the rate is out of range, or the head has no dropout that could be changed.
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
