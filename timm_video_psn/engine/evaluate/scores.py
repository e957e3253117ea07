"""The scores of each video and class that a test leaves behind, as a file; and several of them joined."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timm_video_psn.data import check_class_names
from timm_video_psn.engine.protocol import FUSIONS
from timm_video_psn.files import atomic_path, first_names

_ARRAYS = ("scores", "labels", "videos", "class_names", "protocol", "fusion", "num_expected")
_SHOWN = 5  # videos that an error message names


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a model for each video that could be read.

    Attributes:
        scores: Score of each video and class, (N, K) float32.
        labels: (N,) int64, -1 where the split does not tell; of several classes the first.
        videos: Paths of the videos in their data set, (N,).
        class_names: Names in label order, (K,).
        protocol: Protocol of the test, as text.
        fusion: Kind of the scores, `logits` or `probabilities`.
        num_expected: Videos that there should be.
        dataset_version: Version of the annotations; "" where there is one only, or it is not known.
        targets: All classes of each video, (N, K) bool, where videos may have several; else None.
        activation: `softmax`, or `sigmoid` for models that give each class a probability of its own.
    """

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    videos: tuple[str, ...]
    class_names: tuple[str, ...]
    protocol: str
    fusion: str
    num_expected: int
    dataset_version: str = ""
    targets: npt.NDArray[np.bool_] | None = None
    activation: str = "softmax"

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def labelled(self) -> bool:
        """Whether any label is known."""
        return bool((self.labels >= 0).any())

    def probabilities(self) -> npt.NDArray[np.float64]:
        """The scores as probabilities, (N, K)."""
        from scipy.special import expit, softmax

        values = self.scores.astype(np.float64)
        if self.fusion == "probabilities":
            return values
        return np.asarray(expit(values) if self.activation == "sigmoid" else softmax(values, axis=1))

    def one_hot(self) -> npt.NDArray[np.bool_]:
        """All classes of each video, (N, K); none where the split does not tell."""
        if self.targets is not None:
            return self.targets
        return self.labels[:, None] == np.arange(len(self.class_names))

    def best_labels(self) -> npt.NDArray[np.int64]:
        """The label of each video; of several the one with the highest score, (N,)."""
        if self.targets is None:
            return self.labels
        best = np.where(self.targets, self.scores, -np.inf).argmax(1)
        return np.where(self.targets.any(1), best, -1)

    def take(self, rows: npt.NDArray[np.int64]) -> "Scores":
        """These videos, in this order.

        Args:
            rows: Numbers of the videos.
        """
        return Scores(
            self.scores[rows],
            self.labels[rows],
            tuple(self.videos[row] for row in rows.tolist()),
            *(self.class_names, self.protocol, self.fusion, self.num_expected, self.dataset_version),
            None if self.targets is None else self.targets[rows],
            self.activation,
        )


def check_finite(scores: Scores, name: str = "") -> None:
    """Raises for a score that is not finite, which would count as a hit or as a miss by chance.

    Args:
        scores: Scores of a test.
        name: Name of its file, for the message.

    Raises:
        ValueError: With the first such video.
    """
    finite = np.isfinite(scores.scores).all(1)
    if not finite.all():
        raise ValueError(
            f"{name}{': ' if name else ''}the scores of {scores.videos[int(finite.argmin())]} are not finite; the "
            "weights are spoiled, or --amp-dtype is too narrow"
        )


def save_scores(path: Path, scores: Scores) -> None:
    """Writes a file that `numpy.load(path, allow_pickle=False)` reads.

    Args:
        path: The .npz file.
        scores: Scores of a test; the keys are the names of the fields.
    """
    more = {} if scores.targets is None else {"targets": scores.targets}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            scores=scores.scores,
            labels=scores.labels,
            videos=np.array(scores.videos, dtype=np.str_),
            class_names=np.array(scores.class_names, dtype=np.str_),
            protocol=np.array(scores.protocol),
            fusion=np.array(scores.fusion),
            num_expected=np.array(scores.num_expected),
            dataset_version=np.array(scores.dataset_version),
            activation=np.array(scores.activation),
            **more,  # type: ignore[arg-type]  # numpy's own stub knows no further arrays
        )


def load_scores(path: Path) -> Scores:
    """Reads a file of `save_scores`; nothing that it may hold is run.

    Args:
        path: The .npz file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or not a score file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"score file {path} not found; timm-video-psn validate writes a scores.npz for each protocol"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in _ARRAYS}
            # which files of earlier versions lack
            version = str(file["dataset_version"]) if "dataset_version" in file else ""
            activation = str(file["activation"]) if "activation" in file else "softmax"
            targets = file.get("targets")
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no score file of timm-video-psn validate: {error}") from error
    scores, labels = found["scores"], found["labels"]
    shape = (len(found["videos"]), len(found["class_names"]))
    wrong_targets = targets is not None and (targets.shape != shape or targets.dtype != np.bool_)
    if scores.shape != shape or labels.shape != shape[:1] or str(found["fusion"]) not in FUSIONS or wrong_targets:
        raise ValueError(
            f"{path}: scores of shape {scores.shape} and {labels.shape} labels do not fit {shape[0]} videos of "
            f"{shape[1]} classes; write the file again"
        )
    return Scores(
        scores.astype(np.float32),
        labels.astype(np.int64),
        tuple(found["videos"].tolist()),
        tuple(found["class_names"].tolist()),
        str(found["protocol"]),
        str(found["fusion"]),
        int(found["num_expected"]),
        version,
        targets,
        activation,
    )


def align(parts: Sequence[Scores], names: Sequence[str]) -> list[Scores]:
    """The same videos in the order of the first.

    Args:
        parts: Scores of one split.
        names: Names of the parts, for messages.

    Raises:
        ValueError: Classes, versions of the annotations, videos or labels differ, or a score is not finite; the
            message shows how.
    """
    first, aligned = parts[0], [parts[0]]
    for part, name in zip(parts, names, strict=True):
        check_finite(part, name)
    _check_versions(parts, names)
    for part, name in zip(parts[1:], names[1:], strict=True):
        check_class_names(first.class_names, part.class_names, names[0], name)
        row_of = {video: row for row, video in enumerate(part.videos)}
        only_first = [video for video in first.videos if video not in row_of]
        only_other = sorted(set(part.videos) - set(first.videos))
        if only_first or only_other:
            lists = ((names[0], only_first), (name, only_other))
            difference = "; ".join(
                f"only in {place}: {first_names(videos, _SHOWN)}" for place, videos in lists if videos
            )
            raise ValueError(
                f"{names[0]} and {name} are not of the same videos ({len(first)} and {len(part)}): {difference}; test "
                "both models on the same split, with all of its videos readable"
            )
        part = part.take(np.array([row_of[video] for video in first.videos], dtype=np.int64))
        differing = np.flatnonzero((part.one_hot() != first.one_hot()).any(1) | (part.labels != first.labels))
        if len(differing):
            row = int(differing[0])
            raise ValueError(
                f"{names[0]} and {name} disagree on the labels of {len(differing)} videos, as {first.videos[row]}: "
                f"{first.labels[row]} and {part.labels[row]}; test both models with the same annotations"
            )
        aligned.append(part)
    return aligned


def _check_versions(parts: Sequence[Scores], names: Sequence[str]) -> None:
    """Raises unless all parts that know the version of their annotations know the same one."""
    known = [(name, part.dataset_version) for name, part in zip(names, parts, strict=True) if part.dataset_version]
    for name, version in known[1:]:
        if version != known[0][1]:
            raise ValueError(
                f"{known[0][0]} is of the annotations {known[0][1]}, {name} of {version}, so their results are not "
                "comparable; test both models on one of them"
            )


def ensemble(
    parts: Sequence[Scores], names: Sequence[str], weights: Sequence[float] | None = None, fusion: str | None = None
) -> Scores:
    """The weighted mean of several score files.

    Args:
        parts: Scores of one split.
        names: Names of the parts, for messages and for the protocol.
        weights: Weights of the parts; they need not add up to 1. None for equal ones.
        fusion: Mean of `logits` or `probabilities`; None for logits if all parts hold logits.

    Raises:
        ValueError: The parts do not fit together, or the weights do not fit them.
    """
    if len(parts) < 2:
        raise ValueError(f"an ensemble of {len(parts)} score files asked for; give 2 or more")
    weights = [1.0] * len(parts) if weights is None else list(weights)
    if len(weights) != len(parts) or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"--weights {weights} for {len(parts)} score files; give one for each, from 0 on, not all 0")
    of_probabilities = [name for name, part in zip(names, parts, strict=True) if part.fusion == "probabilities"]
    if fusion == "logits" and of_probabilities:
        raise ValueError(f"{', '.join(of_probabilities)} hold probabilities, no logits; use --fusion probabilities")
    fusion = fusion or ("probabilities" if of_probabilities else "logits")
    aligned = align(parts, names)
    if len({part.activation for part in parts}) > 1:
        kinds = ", ".join(f"{part.activation} in {name}" for name, part in zip(names, parts, strict=True))
        raise ValueError(f"the scores mean different things ({kinds}); join models that one --loss has trained")
    shares = np.array(weights) / sum(weights)
    values = [part.probabilities() if fusion == "probabilities" else part.scores.astype(np.float64) for part in aligned]
    joined = sum(share * value for share, value in zip(shares, values, strict=True))
    terms = " + ".join(f"{share:.3g} * ({part.protocol})" for share, part in zip(shares, parts, strict=True))
    return Scores(
        np.asarray(joined, dtype=np.float32),
        parts[0].labels,
        parts[0].videos,
        parts[0].class_names,
        f"ensemble by {fusion}: {terms}",
        fusion,
        max(part.num_expected for part in parts),
        next((part.dataset_version for part in parts if part.dataset_version), ""),
        parts[0].targets,
        parts[0].activation,
    )
