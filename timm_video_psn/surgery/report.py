"""What sits where in a model after surgery."""

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class InjectedModule:
    """One attached module: the dotted name of its target, its place, the target and the module itself."""

    name: str
    where: Literal["before", "after"]
    target: nn.Module
    module: nn.Module

    @property
    def num_parameters(self) -> int:
        """Parameters that the attached module adds."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def __str__(self) -> str:
        kind, target = type(self.module).__name__, type(self.target).__name__
        return f"{self.name}: {kind} {self.where} {target}, {self.num_parameters:,} parameters"


@dataclass(frozen=True)
class Injection:
    """The attached modules of a model; printing it gives one line each."""

    items: tuple[InjectedModule, ...]

    @property
    def num_parameters(self) -> int:
        """Parameters that all attached modules add."""
        return sum(item.num_parameters for item in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        return "\n".join(map(str, self.items)) or "nothing attached"


@dataclass(frozen=True)
class ReplacedModule:
    """One replaced module: its dotted name, what was there and what is there now."""

    name: str
    old: nn.Module
    new: nn.Module

    @property
    def num_parameters(self) -> int:
        """Parameters that the replacement adds, or takes away if negative."""
        old, new = (sum(parameter.numel() for parameter in module.parameters()) for module in (self.old, self.new))
        return new - old

    def __str__(self) -> str:
        return (
            f"{self.name}: {type(self.new).__name__} for {type(self.old).__name__}, {self.num_parameters:+,} parameters"
        )


@dataclass(frozen=True)
class Replacement:
    """The replaced modules of a model; printing it gives one line each."""

    items: tuple[ReplacedModule, ...]

    @property
    def num_parameters(self) -> int:
        """Parameters that all replacements add."""
        return sum(item.num_parameters for item in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        return "\n".join(map(str, self.items)) or "nothing replaced"
