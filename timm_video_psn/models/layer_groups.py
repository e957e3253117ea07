"""timm's layer groups for a backbone that has a prefix and temporal modules: what layer decay and freezing go by.

A matcher maps group names to a pattern, or to pairs of pattern and suffix. timm sorts a parameter into the group whose
pattern fits its name first, at the numbers that the pattern captures and the suffix adds.
"""

import re
from typing import Any

from torch import nn

from timm_video_psn.surgery import CHILD, injected

Matcher = dict[str, Any]
Pairs = list[tuple[str, tuple[float, ...] | None]]

_ANCHOR = re.compile(r"(?:(?<=[|(])|^)\^")  # a ^ at the start of a pattern or of an alternative in it


def with_prefix(matcher: Matcher, prefix: str) -> Matcher:
    """The matcher for names that begin with `prefix`.

    Args:
        matcher: as a timm model's `group_matcher` returns it.
        prefix: for example `backbone.`.
    """
    # timm matches from the start of the name, so the anchors, which only some alternatives carry, say nothing.
    return {
        group: [(f"^{re.escape(prefix)}(?:{_ANCHOR.sub('', pattern)})", suffix) for pattern, suffix in _pairs(spec)]
        for group, spec in matcher.items()
    }


def with_members(matcher: Matcher, members: dict[str, str]) -> Matcher:
    """The matcher with further names, each in the group of another name; those that fit a pattern already stay there.

    Args:
        matcher: a matcher.
        members: a name's start -> the name of the parameter whose group it joins.
    """
    extended = {group: _pairs(spec) for group, spec in matcher.items()}
    for start, companion in members.items():
        if _find(extended, start) is None and (found := _find(extended, companion)) is not None:
            group, numbers = found
            extended[group].append((f"^{re.escape(start)}", numbers))
    return extended


def companions(backbone: nn.Module, prefix: str) -> dict[str, str]:
    """For each attached module, by the start of its parameters' names, the last parameter of its target.

    Args:
        backbone: holds the targets.
        prefix: of the names in the result.
    """
    found = {}
    for item in injected(backbone):
        own = [name for name, _ in item.target.named_parameters() if not name.startswith(f"{CHILD}.")]
        if own:
            found[f"{prefix}{item.name}.{CHILD}."] = f"{prefix}{item.name}.{own[-1]}"
    return found


def _pairs(spec: Any) -> Pairs:
    """A group's patterns in the longer of timm's forms."""
    if spec is None:
        return []
    return list(spec) if isinstance(spec, (tuple, list)) else [(spec, None)]


def _find(matcher: dict[str, Pairs], name: str) -> tuple[str, tuple[float, ...]] | None:
    """The group whose pattern fits a name, and the numbers of the name within it."""
    for group, pairs in matcher.items():
        for pattern, suffix in pairs:
            if found := re.match(pattern, name):
                captured = (float(number) for number in found.groups() if number is not None)
                return group, (*captured, *(suffix or ()))
    return None
