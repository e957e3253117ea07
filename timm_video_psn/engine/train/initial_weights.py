"""Weights of a file as the beginning of a run: those of another run, or any state dict with the model's names."""

import logging
import pickle
from pathlib import Path

from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

_logger = logging.getLogger(__name__)


def load_initial_weights(model: nn.Module, file: str) -> None:
    """Load a model.safetensors or last.pt of a run, or a state dict; a classifier of other classes stays as it is.

    Args:
        model: a model of timm, as built.
        file: path of the weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights, or weights of another model.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"--initial-checkpoint {file}: no such file; give the model.safetensors of a best/ folder, or a last.pt"
        )
    try:
        weights = load_state_dict(file, weights_only=True)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise ValueError(f"--initial-checkpoint {file} holds no weights: {str(error).splitlines()[0]}") from error
    own = model.state_dict()
    other = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    classifier = [name for name in other if _is_classifier(model, name)]
    wrong = {
        "missing": [name for name in own if name not in weights],
        "unknown": [name for name in weights if name not in own],
        "of another shape": [name for name in other if name not in classifier],
    }
    if any(wrong.values()):
        found = "; ".join(f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in wrong.items() if names)
        raise ValueError(
            f"--initial-checkpoint {file} does not fit the model: {found}; use the --model and --model-kwargs that it "
            "was trained with"
        )
    model.load_state_dict({name: own[name] if name in classifier else value for name, value in weights.items()})
    if classifier:
        _logger.info(f"weights   {file}, but for {', '.join(classifier)}: other classes, so these begin at random")


def _is_classifier(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to the last layer."""
    module_name, _, parameter = name.rpartition(".")
    classifier = model.get_classifier()  # type: ignore[operator]
    return model.get_submodule(module_name) is classifier and parameter in ("weight", "bias")
