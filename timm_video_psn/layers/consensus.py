"""How the frames of a clip come to one prediction: the consensus after the backbone, by name.

A consensus sees what the backbone's classifier gives for each frame. `average`, the default and the paper's choice,
takes logits; others take features, into which the classifier then turns each frame.
"""

import difflib
from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn


class MultiScaleRelation(nn.Module):
    """TRN's multi-scale relations (Zhou, Andonian, Oliva, Torralba: "Temporal Relational Reasoning", ECCV 2018).

    As in the official repository (zhoubolei/TRN-pytorch, `RelationModuleMultiScale`): the logits are a sum over
    subsets of T, T-1, ... 2 frames, of each subset's features in a row through ReLU, a linear layer to 256, ReLU, and a
    linear layer, one pair for each size. Up to three subsets of a size are drawn at random for each batch in training.
    The official code draws in evaluation, too; here evaluation takes the first three of evenly spread ones, so that it
    repeats itself.

    Args:
        num_features: Features of each frame.
        num_frames: Frames T of every clip.
        num_classes: Classes K.

    Raises:
        ValueError: A clip of one frame has no relations.
    """

    bottleneck = 256
    drawn = 3

    def __init__(self, num_features: int, num_frames: int, num_classes: int):
        super().__init__()
        if num_frames < 2:
            raise ValueError(f"num_frames={num_frames}: TRN relates frames to each other; use at least 2")
        self.num_frames, self.num_classes = num_frames, num_classes
        self.scales = list(range(num_frames, 1, -1))
        self.subsets = [list(combinations(range(num_frames), scale)) for scale in self.scales]
        self.relations = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Linear(scale * num_features, self.bottleneck),
                nn.ReLU(),
                nn.Linear(self.bottleneck, num_classes),
            )
            for scale in self.scales
        )

    def classifiers(self) -> tuple[str, ...]:
        """Names of the layers that give logits."""
        return tuple(f"relations.{i}.3" for i in range(len(self.scales)))

    def check_length(self, num_frames: int) -> None:
        """Raises for clips of another length.

        Args:
            num_frames: Frames of the clips at hand.
        """
        if num_frames != self.num_frames:
            raise ValueError(
                f"clips of {num_frames} frames, but TRN is built for {self.num_frames}; use clips of "
                f"{self.num_frames} frames, or build a model with num_frames={num_frames}"
            )

    def reset(self, num_classes: int) -> None:
        """New layers for other classes.

        Args:
            num_classes: Classes K.
        """
        self.num_classes = num_classes
        relation: Any
        for relation in self.relations:
            old = relation[3].weight
            relation[3] = nn.Linear(self.bottleneck, num_classes, device=old.device, dtype=old.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Relate.

        Shape:
            x: (B, T, num_features) -> (B, K)

        Raises:
            ValueError: Clips of another length.
        """
        self.check_length(x.shape[1])
        total = None
        for relation, subsets in zip(self.relations, self.subsets, strict=True):
            for subset in self._draw(subsets):
                logits = relation(x[:, list(subset)].flatten(1))
                total = logits if total is None else total + logits
        assert total is not None
        return total

    def _draw(self, subsets: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Up to three of the subsets."""
        count = min(self.drawn, len(subsets))
        if self.training:
            return [subsets[i] for i in torch.randperm(len(subsets))[:count].tolist()]
        return [subsets[i * len(subsets) // count] for i in range(count)]


# Each takes (num_features, num_frames, num_classes); None for the average of logits, which needs no features.
CONSENSUSES: dict[str, Callable[..., nn.Module] | None] = {"average": None, "trn": MultiScaleRelation}


def create_consensus(name: str, num_features: int, num_frames: int, num_classes: int) -> Any:
    """The consensus of a name, or None for the average of logits.

    Args:
        name: A key of `CONSENSUSES`.
        num_features: Features that it gets of each frame.
        num_frames: Frames T of a clip.
        num_classes: Classes K.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in CONSENSUSES:
        near = difflib.get_close_matches(name, CONSENSUSES, n=1, cutoff=0.0)
        raise ValueError(f"consensus={name!r} is unknown; use one of {', '.join(CONSENSUSES)}; nearest: {near[0]}")
    create = CONSENSUSES[name]
    return None if create is None else create(num_features, num_frames, num_classes)
