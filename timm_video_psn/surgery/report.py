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
