"""The motion data set: small generated videos whose class is only in the order of what happens.

One textured shape moves or grows before a textured background. The twelve classes come in six pairs, and within a pair
the frames of a clip, taken without their order, have the same distribution in both classes. A model that averages over
frames (TSN) can tell the pairs apart but has to guess within a pair, so it ends near 50 %; what lies above is temporal
modelling. Frames drawn at random from equal segments, as in training, keep that property. Fixed middle frames keep it
but for rounding: with 4 of 24 they lie half a frame late, which a model trained on such frames could exploit.

- slide_right / slide_left, approach / recede, hop_then_pulse / pulse_then_hop (hop: up and back, pulse: grow and back),
  duck_then_dip / dip_then_duck (duck: shrink and back, dip: down and back): the second is the first, drawn anew, played
  backwards as a whole. Reversal does not change which frames there are.
- right_then_left / left_then_right, grow_then_shrink / shrink_then_grow: an excursion and its return look alike played
  backwards, so here the second class starts from the other end. Neither end may be seen more often than the other;
  `motion_actions.draw_tent` says why it is not.

Neither can anything else tell the order: the camera sways on a closed path (`motion_render`), and the files hold every
frame coded alone with one quantiser (`write_video.INTRA_ONLY`). Radius, duration, travel, zoom, start, place, shape,
angle, colours, textures, sway and noise are drawn for each clip, whatever its class.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from timm_video_psn.data.datasets.motion_actions import ACTIONS
from timm_video_psn.data.datasets.motion_render import render
from timm_video_psn.data.parallel import end_with_parent
from timm_video_psn.data.video.write_video import write_video
from timm_video_psn.files import atomic_folder

MOTION_CLASSES = tuple(sorted(ACTIONS))
MOTION_PAIRS = tuple(  # labels that only the order of the frames tells apart
    (MOTION_CLASSES.index(first), MOTION_CLASSES.index(second))
    for first, second in (
        ("slide_right", "slide_left"),
        ("approach", "recede"),
        ("hop_then_pulse", "pulse_then_hop"),
        ("duck_then_dip", "dip_then_duck"),
        ("right_then_left", "left_then_right"),
        ("grow_then_shrink", "shrink_then_grow"),
    )
)

_VERSION = 2  # raise it with any change to the clips: old folders are then not taken for new ones
_MARKER = "motion.json"
_SPLITS = ("train", "val")


def motion_clip(label: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a clip of a class.

    Args:
        label: Index into `MOTION_CLASSES`.
        rng: Source of everything that the class leaves open.

    Returns:
        uint8 RGB frames (24, 72, 72, 3).
    """
    action = ACTIONS[MOTION_CLASSES[label]]
    frames = render(action.draw(rng), rng)
    return frames[::-1].copy() if action.backwards else frames


def prepare_motion(
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    train_per_class: int = 128,
    val_per_class: int = 50,
) -> Path:
    """Generates the motion data set unless it exists: `train/<class>/*.mp4` and `val/<class>/*.mp4`, 12 fps.

    The clips depend on `seed` alone. They appear under their name only when all are written, so that an interrupted
    generation leaves nothing that could be taken for the data set, and of two at once the first to finish counts.

    Args:
        data_dir: Folder for the data set, new or empty; None for one in the user's cache folder.
        seed: Seed of all clips. Training and validation clips never share one.
        workers: Processes; None for one for each CPU that this process may use.
        progress: Show a progress bar in a terminal.
        train_per_class: Training clips of each of the 12 classes.
        val_per_class: Validation clips of each class.

    Returns:
        The folder.

    Raises:
        FileExistsError: `data_dir` holds something else.
        ValueError: `data_dir` holds a motion data set of other settings.
    """
    settings = {"version": _VERSION, "seed": seed, "train_per_class": train_per_class, "val_per_class": val_per_class}
    name = f"motion-{_VERSION}-seed{seed}-{train_per_class}-{val_per_class}"
    folder = _cache_dir() / name if data_dir is None else Path(data_dir).absolute()
    if _holds_motion(folder, settings):
        return folder
    try:
        with atomic_folder(folder) as draft:
            _generate(draft, seed, {"train": train_per_class, "val": val_per_class}, workers, progress)
            (draft / _MARKER).write_text(json.dumps(settings))
    except OSError:
        # Another process may have been faster, and a full folder is not replaced: its clips are the same ones.
        if not _holds_motion(folder, settings):
            raise
    return folder


def is_motion_folder(folder: Path) -> bool:
    """Whether a complete motion data set, of whatever seed and size, lies in the folder."""
    return (folder / _MARKER).is_file()


def check_motion_folder(folder: Path, split: str, class_names: tuple[str, ...], num_videos: int) -> None:
    """Raises unless a generated folder still holds what this version generated into it.

    Args:
        folder: A folder with a marker.
        split: "train" or "val".
        class_names: Names of the class folders found.
        num_videos: Videos found in the split.

    Raises:
        ValueError: Videos or classes are missing or too many, or the clips are of another version.
    """
    marker = json.loads((folder / _MARKER).read_text())
    expected = marker.get(f"{split}_per_class", 0) * len(MOTION_CLASSES)
    if marker.get("version") != _VERSION or class_names != MOTION_CLASSES or num_videos != expected:
        raise ValueError(
            f"{folder} is not the motion data set as it was generated: found {num_videos} {split} videos of "
            f"{len(class_names)} classes, version {marker.get('version')}; expected {expected} of "
            f"{len(MOTION_CLASSES)}, version {_VERSION}; delete the folder to generate it again"
        )


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "timm_video_psn"


def _holds_motion(folder: Path, settings: dict[str, int]) -> bool:
    """Whether the folder holds the data set; an error where it holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not is_motion_folder(folder):
        raise FileExistsError(
            f"the motion data set was to be generated in {folder}, which exists and holds something else (there is no "
            f"{_MARKER} in it); name a new or empty folder, or remove this one"
        )
    found = json.loads((folder / _MARKER).read_text())
    if found != settings:
        raise ValueError(
            f"{folder} holds a motion data set with {found}, asked for was {settings}; ask for what is there, name "
            "another folder, or remove this one"
        )
    return True


def _generate(folder: Path, seed: int, per_class: dict[str, int], workers: int | None, progress: bool) -> None:
    """Writes all clips."""
    for split in _SPLITS:
        for name in MOTION_CLASSES:
            (folder / split / name).mkdir(parents=True)
    jobs = [
        (split, label, number)
        for split in _SPLITS
        for label in range(len(MOTION_CLASSES))
        for number in range(per_class[split])
    ]
    workers = _available_cpus() if workers is None else workers
    with _mapping(workers) as mapping:
        done = mapping(partial(_write_clip, folder, seed), jobs)
        hidden = None if progress else True  # None: shown in a terminal only
        for _ in tqdm(done, total=len(jobs), desc="generating motion clips", unit="clip", disable=hidden):
            pass


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterable[None]]]:
    """A `map` over processes, or the built-in one where a single process is enough."""
    if workers <= 1:
        yield map
        return
    pool = ProcessPoolExecutor(workers, initializer=end_with_parent, initargs=(os.getpid(),))
    try:
        yield partial(pool.map, chunksize=8)
    finally:
        pool.shutdown(cancel_futures=True)


def _write_clip(folder: Path, seed: int, job: tuple[str, int, int]) -> None:
    """One clip, drawn from a generator of its own: whoever writes it, and when, it comes out the same."""
    split, label, number = job
    rng = np.random.default_rng((seed, _SPLITS.index(split), label, number))
    write_video(folder / split / MOTION_CLASSES[label] / f"{number:04d}.mp4", motion_clip(label, rng))


def _available_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
