"""Put another module in the place of any child of any model.

The new module takes the old one's name, so that its parent calls it as it called the old one. Nothing wraps anything:
copies, pickles, `torch.compile` and `torch.export` see a module like any other.
"""

from collections.abc import Callable, Sequence

from torch import nn

from timm_video_psn.surgery.inject import CHILD, injected
from timm_video_psn.surgery.match import match
from timm_video_psn.surgery.report import ReplacedModule, Replacement

# torch's dicts of hooks on calls and gradients, with those that say how each of them wants to be called. Hooks on
# state dicts are not among them: they belong to the old module's parameters.
_HOOKS: dict[str, tuple[str, ...]] = {
    "_forward_hooks": ("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    "_forward_pre_hooks": ("_forward_pre_hooks_with_kwargs",),
    "_backward_hooks": (),
    "_backward_pre_hooks": (),
}


def replace(
    model: nn.Module, patterns: str | Sequence[str], build: Callable[[str, nn.Module], nn.Module]
) -> Replacement:
    """Puts a new module in the place of every child that the patterns name.

    All children are matched, all modules built and all of them checked before the model is touched. Hooks on calls and
    gradients, and a module attached by `inject`, move to the new module. A module that several parents share is
    replaced in all of them.

    Args:
        model: Any module; changed in place.
        patterns: Dotted names, wildcards allowed (see `match`).
        build: Called with the name and the old module, returns one that takes and gives what the old one does.

    Returns:
        What took the place of what; `put_back` undoes it.

    Raises:
        NoTargetError: A pattern fits nothing.
        ValueError: One child to be replaced is inside another, `build` returned one module for several, or both old
            and new module carry hooks of one kind or an attached module.
        TypeError: `build` returned something that is not a module.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        >>> print(replace(net, "1", lambda name, old: nn.GELU()))
        1: GELU for ReLU, +0 parameters
    """
    olds = match(model, patterns)
    items = tuple(ReplacedModule(name, old, build(name, old)) for name, old in olds)
    _check(items)
    parents = list(model.modules())
    for item in items:
        _swap(parents, item)
    return Replacement(items)


def put_back(model: nn.Module, replacement: Replacement) -> None:
    """Undoes `replace` on the model that it was called for, hooks and attached modules included.

    Args:
        model: The model; changed in place.
        replacement: The report that `replace` returned.

    Raises:
        ValueError: A module that it put in is no longer there, as in a copy of the model.
    """
    inside = dict(model.named_modules())
    gone = [item.name for item in replacement.items if inside.get(item.name) is not item.new]
    if gone:
        raise ValueError(
            f"cannot put back {', '.join(gone)}: the module there is not the one from replace(); put_back works only "
            "on the model that was given to replace(), not on copies"
        )
    olds = {item.name: item.old for item in replacement.items}
    replace(model, list(olds), lambda name, _: olds[name])


def _swap(parents: list[nn.Module], item: ReplacedModule) -> None:
    """Puts the new module wherever the old one is, in its mode, with its hooks and what is attached to it."""
    for parent in parents:
        for key, child in parent._modules.items():
            if child is item.old:
                parent._modules[key] = item.new
    item.new.train(item.old.training)
    attached = _carries_attached(item.old)
    for kind in _carried_hooks(item.old):
        for name in (kind, *_HOOKS[kind]):  # the dicts themselves, which the handles for removal refer to
            held, empty = getattr(item.old, name), getattr(item.new, name)
            setattr(item.new, name, held)
            setattr(item.old, name, empty)
        if kind == "_backward_hooks":
            item.new._is_full_backward_hook = item.old._is_full_backward_hook
    if attached:
        item.new.add_module(CHILD, item.old.get_submodule(CHILD))
        delattr(item.old, CHILD)


def _carried_hooks(module: nn.Module) -> set[str]:
    """The kinds of hooks that a module carries."""
    return {kind for kind in _HOOKS if getattr(module, kind)}


def _carries_attached(module: nn.Module) -> bool:
    """Whether `inject` has attached something to the module itself."""
    return any(item.target is module for item in injected(module))


def _check(items: tuple[ReplacedModule, ...]) -> None:
    """Collects what forbids the replacement, and raise it at once."""
    wrong_type = [
        f"{item.name}: build returned {type(item.new).__name__}" for item in items if not _is_module(item.new)
    ]
    if wrong_type:
        raise TypeError("build must return an nn.Module for every target; found " + "; ".join(wrong_type))
    if len({id(item.new) for item in items}) < len(items):
        raise ValueError("build returned one module for several targets; return a new one for each")
    olds = {id(item.old): item.name for item in items}
    nested = [
        f"{item.name} holds {olds[id(inner)]}"
        for item in items
        for inner in item.old.modules()
        if inner is not item.old and id(inner) in olds
    ]
    if nested:
        raise ValueError(f"cannot replace a module and one inside it: {'; '.join(nested)}; name only one of them")
    both = [
        item.name
        for item in items
        if _carried_hooks(item.old) & _carried_hooks(item.new)
        or (_carries_attached(item.old) and hasattr(item.new, CHILD))
    ]
    if both:
        raise ValueError(
            f"cannot replace {', '.join(both)}: hooks or an attached module would move to the new module, which has "
            "its own; register its own after the replacement"
        )


def _is_module(new: object) -> bool:
    return isinstance(new, nn.Module)
