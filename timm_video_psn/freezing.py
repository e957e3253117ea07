"""Freeze what the synthesizers have learned: "When the process finished, we freeze the synthesizer" (Sec. 1)."""

from torch import nn

from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer


def freeze_synthesizers(model: nn.Module) -> tuple[str, ...]:
    """Keeps the parameters and the norm statistics of every synthesizer as they are, whatever comes.

    A frozen synthesizer stays in evaluation mode through `model.train()`; its parameters take no gradient, but pass it
    on to the layers before it. It counts in neither auxiliary loss: without synthesizers that learn,
    `auxiliary_losses` is empty, as for a model that has none. Copies and pickles stay frozen; a state dict holds
    numbers only, so that a model that loads it has to be frozen again.

    Args:
        model: Any module that holds synthesizers; changed in place. Those that are frozen already stay so.

    Returns:
        The dotted names of all its synthesizers.

    Raises:
        ValueError: There is none.

    Example:
        >>> import timm, timm_video_psn
        >>> freeze_synthesizers(timm.create_model("psn_resnet18", sites="layer1"))
        ('backbone.layer1.1.temporal',)
    """
    synthesizers = _synthesizers(model)
    if not synthesizers:
        raise ValueError(
            f"{type(model).__name__} holds no synthesizer to freeze; use a psn model (timm.list_models('psn_*')), or "
            "leave this call out for other temporal modules"
        )
    for synthesizer in synthesizers.values():
        synthesizer.freeze()
    return tuple(synthesizers)


def unfreeze_synthesizers(model: nn.Module) -> tuple[str, ...]:
    """Undoes `freeze_synthesizers`: parameters take gradients as before, and norms follow the model's mode.

    Args:
        model: Any module that holds synthesizers; changed in place.

    Returns:
        The dotted names of those that were frozen.
    """
    frozen = {name: synthesizer for name, synthesizer in _synthesizers(model).items() if synthesizer.frozen}
    for synthesizer in frozen.values():
        synthesizer.unfreeze()
        synthesizer.train(model.training)
    return tuple(frozen)


def _synthesizers(model: nn.Module) -> dict[str, ActionPerceptronSynthesizer]:
    """Dotted name -> synthesizer."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ActionPerceptronSynthesizer)}
