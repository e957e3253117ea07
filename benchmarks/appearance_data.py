"""Draw the data set `appearance`: the counterpart of `motion`, whose class is in every single frame and never in order.

    python benchmarks/appearance_data.py FOLDER
    python train_video.py --dataset folder --data-dir FOLDER --recipe motion

Six classes, the colour of the shape; which shape it is, and which of the twelve actions of `motion` it does, is drawn
whatever its class. All else, textures, background, sizes, noise, frames and coding, is as in `motion`, and so is the
number of clips.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from timm_video_psn.data import write_video
from timm_video_psn.data.datasets.motion_actions import ACTIONS
from timm_video_psn.data.datasets.motion_render import render

COLOURS = {  # grey levels of red, green and blue
    "blue": (60, 60, 195),
    "cyan": (60, 195, 195),
    "green": (60, 195, 60),
    "magenta": (195, 60, 195),
    "red": (195, 60, 60),
    "yellow": (195, 195, 60),
}
PER_CLASS = {"train": 256, "val": 100}  # 1536 and 600, as motion has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_appearance(args.folder, args.seed)
    print(f"wrote {args.folder}")


def write_appearance(folder: Path, seed: int = 0) -> Path:
    """All clips, unless the folder is there."""
    if folder.exists():
        return folder
    draft = folder.with_name(f".{folder.name}-draft")
    jobs = [(split, name, number) for split in PER_CLASS for name in COLOURS for number in range(PER_CLASS[split])]
    with ProcessPoolExecutor() as pool:
        done = pool.map(partial(write_clip, draft, seed), jobs, chunksize=16)
        list(tqdm(done, total=len(jobs), desc="drawing appearance", unit="clip", disable=None))
    draft.replace(folder)
    return folder


def write_clip(folder: Path, seed: int, job: tuple[str, str, int]) -> None:
    split, name, number = job
    path = folder / split / name / f"{number:04d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, list(PER_CLASS).index(split), list(COLOURS).index(name), number))
    write_video(path, appearance_clip(name, rng))


def appearance_clip(name: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 frames (24, 72, 72, 3) in which a shape of that colour does anything that motion knows."""
    action = list(ACTIONS.values())[rng.integers(len(ACTIONS))]
    frames = render(action.draw(rng), rng, COLOURS[name])
    return frames[::-1].copy() if action.backwards else frames


if __name__ == "__main__":
    main()
