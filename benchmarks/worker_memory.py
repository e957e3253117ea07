"""Prints the heap of each loader worker after every so many clips, and its growth over the second half of the run.

    nice -n 19 python -m benchmarks.worker_memory --clips a.mp4 b.mp4 --minutes 30

The videos are copied to a short side of 112 pixels first, so that many clips pass. A leak grows at the same pace in the
second half; what the allocators of Python, FFmpeg and torch keep does not.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import get_worker_info

from timm_video_psn.data import (
    PathTable,
    Sample,
    TrainTransform,
    UnreadableVideo,
    VideoDataset,
    VideoIndex,
    create_loader,
)
from timm_video_psn.data.loaders import end_workers
from timm_video_psn.data.tools.reencode import resize_video

SIDE, CRF, MOST = 112, 23, 10_000_000


class Weighed(VideoDataset):
    """Clips; after every so many, a worker writes how many they were and how large its heap is."""

    log: Path
    every: int
    seen: int = 0  # by this worker, whose copy of the data set this is

    def __getitem__(self, key: int | tuple[int, int]) -> Sample | UnreadableVideo:
        item = super().__getitem__(key)
        info = get_worker_info()
        assert info is not None
        self.seen += 1
        if self.seen % self.every == 0:
            status = Path("/proc/self/status").read_text()
            kilobytes = status.partition("RssAnon:")[2].split()[0]
            with self.log.open("a") as file:
                file.write(f"{info.id} {self.seen} {kilobytes}\n")
        return item


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="videos to read")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=500, help="clips of a worker between two looks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = [folder / f"{clip.stem}.mp4" for clip in args.clips]
        for pair in zip(args.clips, copies, strict=True):
            assert resize_video(pair, SIDE, CRF).error is None
        paths = PathTable.from_paths(copies)
        numbers = np.arange(MOST) % len(copies)
        index = VideoIndex(_Repeated(paths, numbers), np.zeros(MOST, int), ("a",), folder)  # type: ignore[arg-type]
        dataset = Weighed(index, 8, TrainTransform(96), training=True)
        dataset.log, dataset.every = folder / "log", args.every
        loader = create_loader(dataset, batch_size=8, shuffle=False, workers=args.workers)
        start = time.monotonic()
        for _ in loader:
            if time.monotonic() - start > 60 * args.minutes:
                break
        end_workers(loader)
        report(dataset.log)


class _Repeated:
    """The same few paths over and over."""

    def __init__(self, paths: PathTable, numbers: np.ndarray):
        self.paths, self.numbers = paths, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> str:
        return self.paths[int(self.numbers[number])]


def report(log: Path) -> None:
    rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for line in log.read_text().splitlines():
        worker, clips, kilobytes = map(int, line.split())
        rows[worker].append((clips, kilobytes))
    for worker, seen in sorted(rows.items()):
        clips, kilobytes = np.array(seen, dtype=float).T
        half = slice(len(clips) // 2, None)
        growth = [np.polyfit(clips[part] / 1000, kilobytes[part], 1)[0] for part in (slice(None), half)]
        print(
            f"worker {worker}: {clips[-1]:,.0f} clips, heap {kilobytes[0]:,.0f} KB at first, "
            f"{kilobytes[-1]:,.0f} KB at last; KB per 1,000 clips: {growth[0]:.1f} over all, "
            f"{growth[1]:.1f} over the second half"
        )


if __name__ == "__main__":
    main()
