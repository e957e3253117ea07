"""Find the children of a module that a pattern names."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn


class NoTargetError(ValueError):
    """A pattern names no child of the model."""


def match(model: nn.Module, patterns: str | Sequence[str]) -> list[tuple[str, nn.Module]]:
    """Children of `model` whose dotted names fit one of the patterns, in the model's own order.

    A pattern is a dotted name whose parts may hold shell wildcards; a wildcard never crosses a dot, so
    `layer?.0` is the first block of every stage and `layer1.*` every block of the first.

    Args:
        model: Any module.
        patterns: One pattern or several; each must fit something.

    Returns:
        Pairs of dotted name and module, without repeats.

    Raises:
        NoTargetError: A pattern fits nothing; the message shows the names nearest to it.

    Example:
        >>> [name for name, _ in match(nn.Sequential(nn.ReLU(), nn.ReLU()), "*")]
        ['0', '1']
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    names = {name: module for name, module in model.named_modules() if name}
    unmatched = [pattern for pattern in patterns if not any(_fits(name, pattern) for name in names)]
    if unmatched or not patterns:
        raise NoTargetError("\n".join(_no_target(model, pattern, list(names)) for pattern in unmatched or [""]))
    return [(name, module) for name, module in names.items() if any(_fits(name, pattern) for pattern in patterns)]


def _fits(name: str, pattern: str) -> bool:
    """Whether each part of the dotted name fits the part of the pattern at its place."""
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _no_target(model: nn.Module, pattern: str, names: list[str]) -> str:
    """The message for a pattern that fits nothing."""
    near = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4) or names[:5]
    return (
        f"pattern {pattern!r} names no child of {type(model).__name__}, which has {len(names)}; "
        f"nearest names: {', '.join(near) or 'none'}; use a dotted name; *, ? and [...] match within a part"
    )
