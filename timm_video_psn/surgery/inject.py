"""Attach a module before or after any child of any model, and take it off again.

The attached module becomes the child `temporal` of its target and is called by one forward (pre-)hook, a function of
this file that looks the child up on the module it is called for. So nothing in the target is renamed or wrapped: stock
checkpoints still load, copies and pickles call their own child, and `torch.compile` and `torch.export` see plain calls.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from timm_video_psn.surgery.match import match
from timm_video_psn.surgery.report import InjectedModule, Injection

CHILD = "temporal"
Where = Literal["before", "after"]


def inject(
    model: nn.Module,
    patterns: str | Sequence[str],
    build: Callable[[str, nn.Module], nn.Module],
    where: Where = "after",
) -> Injection:
    """Attaches a new module to every child that the patterns name.

    All targets are matched, all modules built and all of them checked before the model is touched.

    Args:
        model: Any module; changed in place.
        patterns: Dotted names, wildcards allowed (see `match`); for a Sequential its last or first step is taken.
        build: Called with the name and the module of each target, returns the module to attach to it.
        where: `after` feeds the target's output through the module, `before` its first input.

    Returns:
        What was attached where.

    Raises:
        NoTargetError: A pattern fits nothing.
        ValueError: A target carries an attached module already, has a child of that name itself, or is a container
            that is never called.
        TypeError: `build` returned something that is not a module.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        >>> print(inject(net, "0", lambda name, target: nn.Dropout()))
        0: Dropout after Linear, 0 parameters
    """
    if where not in ("before", "after"):
        raise ValueError(f"where={where!r} is unknown; use 'before' or 'after'")
    targets = list(dict(resolve(target, name, where) for name, target in match(model, patterns)).items())
    additions = [build(name, target) for name, target in targets]
    _check(targets, additions)
    for (_, target), addition in zip(targets, additions, strict=True):
        target.add_module(CHILD, addition.train(target.training))
        _register(target, where)
    names = {name for name, _ in targets}
    return Injection(tuple(item for item in injected(model) if item.name in names))


def resolve(target: nn.Module, name: str, where: Where) -> tuple[str, nn.Module]:
    """The module that really carries what is attached to `target`.

    An `nn.Sequential` would take a new child for one more of its steps, and gradient checkpointing calls its steps
    without it. So what comes after it goes after its last step, and what comes before it before its first.

    Args:
        target: The module named.
        name: Dotted name of the module.
        where: `before` or `after`.

    Returns:
        Dotted name and module.

    Raises:
        ValueError: The target has no steps or no forward, so that nothing would ever be called.
    """
    while type(target).forward is nn.Sequential.forward and target._modules:
        step = list(target._modules)[-1 if where == "after" else 0]
        name, target = f"{name}.{step}", target.get_submodule(step)
    if type(target).forward in (nn.Module.forward, nn.Sequential.forward):  # ModuleList, ModuleDict, empty Sequential
        raise ValueError(
            f"cannot attach to {name}: this {type(target).__name__} is never called; use its children, such as {name}.*"
        )
    return name, target


def detach(model: nn.Module) -> Injection:
    """Takes every attached module off a model, found by looking at the model itself: copies and reloads too.

    Args:
        model: The model; changed in place. Its outputs and parameter names are again what they were before the
            injection.

    Returns:
        What was taken off; empty where nothing was attached.
    """
    removed = Injection(tuple(injected(model)))
    for item in removed.items:
        _unregister(item.target)
        delattr(item.target, CHILD)
    return removed


def injected(model: nn.Module) -> Iterator[InjectedModule]:
    """The modules attached to a model, in its own order."""
    for name, target in model.named_modules():
        where = _where(target)
        if where is not None:
            yield InjectedModule(name, where, target, target.get_submodule(CHILD))


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Within this context the model runs as if nothing were attached.

    Args:
        model: A model with attached modules.
    """
    items = list(injected(model))
    for item in items:
        _unregister(item.target)
    try:
        yield
    finally:
        for item in items:
            _register(item.target, item.where)


# TorchScript compiles the hooks, and wants these very types: a target that it compiles takes one tensor and gives one.


def call_child_after(module: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
    """Forward hook: the target's output through its attached module."""
    result: Tensor = module.temporal(output)
    return result


def call_child_before(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
    """Forward pre-hook: the target's first input through its attached module."""
    if torch.jit.is_scripting():
        return (module.temporal(args[0]),)
    result: tuple[Tensor] = _first_through_child(module, args)
    return result


def _first_through_child(module: Any, args: Any) -> Any:
    """The arguments of a call, the first of them through the attached module."""
    if not args:
        raise TypeError(
            f"{type(module).__name__} was called with keyword arguments only, but the module attached before it needs "
            "a positional one; attach it after another child"
        )
    return (module.temporal(args[0]), *args[1:])


def _hooks(module: nn.Module, where: Where) -> dict[int, Any]:
    """The dict in which torch keeps a module's hooks of this kind."""
    return module._forward_hooks if where == "after" else module._forward_pre_hooks


_FUNCTIONS: dict[Where, Callable[..., Any]] = {"after": call_child_after, "before": call_child_before}


def _register(target: nn.Module, where: Where) -> None:
    if where == "after":
        target.register_forward_hook(call_child_after)
    else:
        target.register_forward_pre_hook(call_child_before)


def _where(target: nn.Module) -> Where | None:
    """Where the module's attached child is called, or None if it has none."""
    for where, function in _FUNCTIONS.items():
        if function in _hooks(target, where).values():
            return where
    return None


def _unregister(target: nn.Module) -> None:
    """Removes our hook from a target."""
    for where, function in _FUNCTIONS.items():
        hooks = _hooks(target, where)
        for handle_id in [key for key, hook in hooks.items() if hook is function]:
            del hooks[handle_id]


def _check(targets: list[tuple[str, nn.Module]], additions: list[nn.Module]) -> None:
    """Collects what forbids the injection, and raise it at once."""
    wrong_type = [
        f"{name}: build returned {type(addition).__name__}"
        for (name, _), addition in zip(targets, additions, strict=True)
        if not isinstance(addition, nn.Module)
    ]
    if wrong_type:
        raise TypeError("build must return an nn.Module for every target; found " + "; ".join(wrong_type))
    taken = [name for name, target in targets if hasattr(target, CHILD)]
    if taken:
        raise ValueError(
            f"cannot attach to {', '.join(taken)}: there is a child {CHILD!r} already; "
            "detach(model) removes earlier injections"
        )
