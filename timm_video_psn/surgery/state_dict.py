"""Which entries of a state dict do not fit a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from timm_video_psn.files import first_names


@dataclass(frozen=True)
class Mismatch:
    """The names in which a state dict and a model differ; false where it fits, and printable.

    Attributes:
        missing: Names that the model has and the state dict lacks.
        unknown: Names that the state dict has and the model lacks.
        reshaped: Names of both, whose tensors differ in shape, with both shapes.
    """

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.reshaped)

    def __str__(self) -> str:
        parts = {"missing": self.missing, "unknown": self.unknown, "of another shape": self.reshaped}
        return "; ".join(f"{len(names)} {kind}: {first_names(names, 5)}" for kind, names in parts.items() if names)


def find_mismatch(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], optional: Callable[[str], bool] = lambda name: False
) -> Mismatch:
    """Compares a state dict with the state dict of the model that should load it.

    Batch counters of norms may be missing: PyTorch before 0.4.1 wrote none, and evaluation reads none.

    Args:
        own: State dict of the model.
        found: State dict to load.
        optional: Tells of a name whether it may be missing, unknown or of another shape, as in a classifier of
            other classes.

    Returns:
        All differing names but the optional ones.

    Example:
        >>> own, found = nn.Linear(2, 3).state_dict(), nn.Linear(2, 4, bias=False).state_dict()
        >>> str(find_mismatch(own, found))
        '1 missing: bias; 1 of another shape: weight (4, 2) for (3, 2)'
    """
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in own]
    shared = [name for name in own if name in found and not optional(name)]
    return Mismatch(
        tuple(name for name in missing if not optional(name)),
        tuple(name for name in unknown if not optional(name)),
        tuple(
            f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}"
            for name in shared
            if own[name].shape != found[name].shape
        ),
    )
