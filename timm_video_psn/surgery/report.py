"""What sits where in a model after surgery."""

from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from torch import nn


@dataclass(frozen=True)
class InjectedModule:
    """One attached module.

    Attributes:
        name: Dotted name of the target.
        where: Whether the module is called before or after its target.
        target: Module that carries the attached one.
        module: The attached module.
    """

    name: str
    where: Literal["before", "after"]
    target: nn.Module
    module: nn.Module

    @property
    def num_parameters(self) -> int:
        """Parameters that the attached module adds."""
        return count_parameters(self.module)

    @property
    def note(self) -> str:
        """What the attached module says of its own settings (its attribute `note`), or an empty string."""
        return "; ".join(dict.fromkeys(note for part in self.module.modules() if (note := getattr(part, "note", ""))))

    def __str__(self) -> str:
        kind, target = type(self.module).__name__, type(self.target).__name__
        line = f"{self.name}: {kind} {self.where} {target}, {self.num_parameters:,} parameters"
        return f"{line} ({self.note})" if self.note else line


@dataclass(frozen=True)
class ReplacedModule:
    """One replaced module: its dotted name, what was there and what is there now."""

    name: str
    old: nn.Module
    new: nn.Module

    @property
    def num_parameters(self) -> int:
        """Parameters that the replacement adds, or takes away if negative."""
        return count_parameters(self.new) - count_parameters(self.old)

    def __str__(self) -> str:
        return (
            f"{self.name}: {type(self.new).__name__} for {type(self.old).__name__}, {self.num_parameters:+,} parameters"
        )


_Item = TypeVar("_Item", InjectedModule, ReplacedModule)


@dataclass(frozen=True)
class _Report(Generic[_Item]):
    """What an operation has done, item by item; printing it gives one line each."""

    items: tuple[_Item, ...]
    nothing: ClassVar[str]

    @property
    def num_parameters(self) -> int:
        """Parameters that the operation adds to the model."""
        return sum(item.num_parameters for item in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        return "\n".join(map(str, self.items)) or self.nothing


class Injection(_Report[InjectedModule]):
    """The attached modules of a model."""

    nothing = "nothing attached"


class Replacement(_Report[ReplacedModule]):
    """The replaced modules of a model."""

    nothing = "nothing replaced"


def count_parameters(module: nn.Module) -> int:
    """Parameters of a module and of all its children."""
    return sum(parameter.numel() for parameter in module.parameters())
