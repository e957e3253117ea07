"""The videos of a split as columns: a few arrays, however many videos there are."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.data.video.limits import MAX_PIXELS
from timm_video_psn.data.video.reader import Decoder, decode_clip


class PathTable(Sequence[str]):
    """Many paths in one buffer.

    A list of a million strings is a million objects whose reference counts every worker process writes to, which copies
    their memory into each of them. Here they are one bytes object and one array.

    Args:
        buffer: All paths one after the other, as the file system encodes them.
        offsets: Beginning of each path in the buffer, and the end of the last one; (n + 1,).
    """

    def __init__(self, buffer: bytes, offsets: npt.NDArray[np.int64]) -> None:
        self.buffer = buffer
        self._offsets = offsets

    @classmethod
    def from_paths(cls, paths: Iterable[str | os.PathLike[str]]) -> PathTable:
        """Packs paths; the iterable is walked once, and no path is kept as an object."""
        buffer, ends = bytearray(), array("q", [0])
        for path in paths:
            try:
                buffer += os.fsencode(path)
            except UnicodeEncodeError as error:  # half a character of JSON's \\ud83d, or of UTF-16
                raise ValueError(f"{os.fspath(path)!r} can be the name of no file: {error.reason}") from error
            ends.append(len(buffer))
        return cls(bytes(buffer), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices: nobody needs them
        if not -len(self) <= index < len(self):
            raise IndexError(f"path {index} asked for, but there are {len(self)}")
        index %= len(self)
        return os.fsdecode(self.buffer[self._offsets[index] : self._offsets[index + 1]])


@dataclass(frozen=True, eq=False)
class LabelSets:
    """The labels of videos that have several, each set sorted.

    Args:
        values: Labels of all videos, one video after the other, (m,).
        ends: End of each video's labels in `values`, (n,).
    """

    values: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @classmethod
    def from_sets(cls, sets: Iterable[Iterable[int]]) -> LabelSets:
        """Packs sets of labels; a video without a label has an empty one."""
        values, ends = array("q"), array("q")
        for labels in sets:
            values.extend(sorted(set(labels)))
            ends.append(len(values))
        return cls(np.array(values, dtype=np.int64), np.array(ends, dtype=np.int64))

    def of(self, number: int) -> npt.NDArray[np.int64]:
        """The labels of a video."""
        return self.values[self.ends[number - 1] if number else 0 : self.ends[number]]

    def smallest(self) -> npt.NDArray[np.int64]:
        """The first label of each video, -1 where there is none, (n,)."""
        starts = np.concatenate([[0], self.ends[:-1]])
        labels = np.full(len(self.ends), -1)
        labels[starts < self.ends] = self.values[starts[starts < self.ends]]
        return labels


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The videos of one split, as columns: video `i` is `root / paths[i]` and shows `class_names[labels[i]]`.

    Args:
        paths: Paths of the videos, relative to `root`; files or frame folders.
        labels: Class of each video, (n,); -1 if unknown, as in test splits; of several classes the first.
        class_names: Class names in label order.
        root: Folder of the data set.
        shared_split: Whether training and validation use the same videos, because the data set does not separate them.
        reversal_pairs: Pairs of labels that only the order of the frames distinguishes.
        images: Names of the images in frame folders; None if every image of a folder is a frame, or all videos are
            files.
        first_frames: Number of frames before the video in each folder or file, (n,); None for 0 in all.
        lengths: Number of frames that the annotation of each video states, (n,), 0 if it states none; None for 0 in
            all.
        named: Whether the classes have names and not only numbers.
        version: Version of the annotations, if there are several; it belongs beside every result.
        notes: Remarks on the data for the user, one line each.
        label_sets: All classes of each video, for data sets whose videos may have several; else None.
        max_pixels: Most pixels that the frames of one clip may have together, as `VideoReader` takes it.
    """

    paths: PathTable
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    root: Path
    shared_split: bool = False
    reversal_pairs: tuple[tuple[int, int], ...] = ()
    images: ImageNames | None = None
    first_frames: npt.NDArray[np.int32] | None = None
    lengths: npt.NDArray[np.int32] | None = None
    named: bool = True
    version: str = ""
    notes: tuple[str, ...] = ()
    label_sets: LabelSets | None = None
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.paths)

    def labels_of(self, number: int) -> npt.NDArray[np.int64]:
        """All classes of a video, sorted; none for a video without a label.

        Args:
            number: Number of the video.
        """
        if self.label_sets is not None:
            return self.label_sets.of(number)
        return self.labels[number : number + 1][self.labels[number : number + 1] >= 0]

    def with_label_sets(self) -> VideoIndex:
        """The same videos as ones that may have several classes."""
        if self.label_sets is not None:
            return self
        return replace(self, label_sets=LabelSets.from_sets(self.labels_of(number) for number in range(len(self))))

    def targets(self, numbers: Iterable[int]) -> npt.NDArray[np.bool_]:
        """Which classes videos show, (len(numbers), K).

        Args:
            numbers: Numbers of the videos.
        """
        chosen = list(numbers)
        found = np.zeros((len(chosen), len(self.class_names)), dtype=np.bool_)
        for row, number in enumerate(chosen):
            found[row, self.labels_of(number)] = True
        return found

    def class_counts(self) -> npt.NDArray[np.int64]:
        """Number of the videos that show each class, (K,)."""
        values = self.labels[self.labels >= 0] if self.label_sets is None else self.label_sets.values
        return np.bincount(values, minlength=len(self.class_names))

    def classes_without_videos(self) -> list[str]:
        """Names of the classes that no video shows."""
        return [self.class_names[label] for label in np.flatnonzero(self.class_counts() == 0)]

    def fingerprint(self) -> str:
        """A digest that identifies these videos, their order and their labels."""
        digest = hashlib.sha256(self.paths.buffer + self.labels.tobytes())
        sets = () if self.label_sets is None else (self.label_sets.values, self.label_sets.ends)
        for column in (self.first_frames, self.lengths, *sets):
            if column is not None:
                digest.update(column.tobytes())
        return digest.hexdigest()

    def decode(
        self, number: int, choose: Callable[[int], Iterable[int]], decoder: Decoder = "auto"
    ) -> npt.NDArray[np.uint8]:
        """Decodes frames of a video.

        Args:
            number: Number of the video.
            choose: Function from the number of frames to the indices of the wanted ones.
            decoder: Decoder of video files, as `VideoReader` takes it.

        Returns:
            RGB frames (number of indices, H, W, 3).

        Raises:
            DecodeError: The video is missing or damaged, or lacks frames that its annotation states.
        """
        path, (first, length) = self.root / self.paths[number], self.part(number)
        if self.images is not None:
            return self.images.decode(path, choose, first, length, max_pixels=self.max_pixels)

        def choose_of_part(num_frames: int) -> list[int]:
            check_part(path, num_frames, first, length)
            return [first + index for index in choose(length or num_frames - first)]

        return decode_clip(path, choose_of_part, decoder, max_pixels=self.max_pixels)

    def part(self, number: int) -> tuple[int, int]:
        """Frames that precede a video in its folder or file, and its length, 0 for all that follow.

        Args:
            number: Number of the video.
        """
        first = 0 if self.first_frames is None else int(self.first_frames[number])
        return first, 0 if self.lengths is None else int(self.lengths[number])


def videos_of_both(train: VideoIndex, val: VideoIndex) -> list[str]:
    """Paths of the validation videos that are also training videos; parts of one file count as separate videos.

    Args:
        train: The training videos.
        val: The validation videos.
    """

    def places(index: VideoIndex) -> Iterator[tuple[str, str, int, int]]:
        root = str(index.root)
        return ((root, path, *index.part(number)) for number, path in enumerate(index.paths))

    known = set(places(train))
    return [path for root, path, *part in places(val) if (root, path, *part) in known]


def check_part(path: Path, num_frames: int, first: int, length: int) -> None:
    """Raises a DecodeError for a file that ends before the part of it that is the video.

    Args:
        path: The file.
        num_frames: Number of frames in the file.
        first: Frames before the part.
        length: Length of the part; 0 for all frames that follow.
    """
    if first + max(length, 1) > num_frames:
        raise DecodeError(
            path, f"it has {num_frames} frames; its annotation states {length or 'some'} from frame {first} on"
        )
