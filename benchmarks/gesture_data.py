"""Videos of benchmarks/gestures.py: folds, and frames that are decoded once and then mapped into memory."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timm_video_psn.data import VideoIndex
from timm_video_psn.files import atomic_path, write_text

NUM_FOLDS = 5
_SERIAL = re.compile(r"_h?(\d+)")


def fold_of(path: Path) -> int:
    """Fold that tests a video: its serial number modulo 5, `left_12.mp4` and `left_h154_eed5fd.mp4` alike."""
    found = _SERIAL.search(path.stem)
    if found is None:
        raise ValueError(f"{path} has no serial number; names are <class>_<serial>.mp4 or <class>_h<serial>_<hash>.mp4")
    return int(found[1]) % NUM_FOLDS


def write_lists(data_dir: Path, fold: int, folder: Path) -> tuple[Path, Path]:
    """Write the lists of training and test videos of a fold, as `--dataset list` reads them."""
    videos = sorted(data_dir.glob("*/*.mp4"))
    classes = sorted({path.parent.name for path in videos})
    lines: dict[bool, list[str]] = {False: [], True: []}
    for path in videos:
        tested = fold_of(path) == fold
        lines[tested].append(f"{path.relative_to(data_dir)} {classes.index(path.parent.name)}")
    if not all(lines.values()):
        raise ValueError(f"{data_dir} has {len(videos)} videos, which leave fold {fold} or the others empty")
    for tested, name in ((False, "train.txt"), (True, "val.txt")):
        write_text(folder / name, "\n".join(lines[tested]) + "\n")
    return folder / "train.txt", folder / "val.txt"


@dataclass(frozen=True, eq=False)
class HeldIndex(VideoIndex):
    """An index whose videos are decoded once, into arrays that all processes share.

    Attributes:
        cache: folder of the arrays, one file a video, (frames, H, W, 3) uint8.
    """

    cache: Path = Path()

    def decode(
        self, number: int, choose: Callable[[int], Iterable[int]], decoder: str = "auto"
    ) -> npt.NDArray[np.uint8]:
        """Frames of a video; see `VideoIndex.decode`."""
        file = self.cache / f"{self.paths[number]}.npy"
        if not file.exists():
            frames = super().decode(number, range, decoder)
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as temporary, temporary.open("wb") as opened:
                np.save(opened, frames)
        held = _mapped(file)
        return held[list(choose(len(held)))]


@cache
def _mapped(file: Path) -> npt.NDArray[np.uint8]:
    return np.load(file, mmap_mode="r")


def hold(index: VideoIndex, cache: Path) -> HeldIndex:
    """The same videos with their frames in memory."""
    return HeldIndex(**{field.name: getattr(index, field.name) for field in fields(VideoIndex)}, cache=cache)
