"""Clips per CPU second of one core, for several ways to get 8 frames out of a video, interleaved in one run.

    python benchmarks/loading.py
    python benchmarks/loading.py --clips a.mp4 b.mp4 --repeats 20 --workers 2
    python benchmarks/loading.py --clips a.mp4 b.mp4 --only-copies

The ways: decoding every frame and picking 8 then, as many toolkits do (into one array, as torchvision's `read_video`
does it, and into a list, which saves a copy); this package's reader; torchcodec's `get_frames_at`, where torchcodec can
be loaded; a folder with one JPEG a frame. The videos: 10 seconds of 340x256 H.264 as x264 encodes by default and 4
seconds of 240-line VP9, both made here, and any `--clips`. The frames: 8 spread over the video, and 8 within 2 seconds
around its middle.

What is counted is the time that the CPU works, as the system accounts for it: on a core that has nothing else to do it
is the time by the clock, and on a busy one it is much steadier. Every repeat times each way once, so that what else the
machine does hits all of them; a ratio is the median of the repeats' own ratios. Each way has a process of its own, tied
to one core, since the memory that one way has got from the system would speed up another, and warms the core's caches
before it is timed. At last the whole loader, with transforms, collation and worker processes, beside decoding alone in
as many processes; and the same for copies of the `--clips`, as x264 encodes by default and as `prepare resize` does.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import get_worker_info
from tqdm import tqdm

from timm_video_psn.data import (
    PathTable,
    Sample,
    TrainTransform,
    UnreadableVideo,
    VideoDataset,
    VideoIndex,
    VideoReader,
    check_decoder,
    create_loader,
    decode_clip,
    segment_indices,
)
from timm_video_psn.data.tools.reencode import resize_video

NUM_FRAMES = 8
REAL_CLIP = Path(__file__).parents[2] / "shared" / "clips" / "arm_wrestling.mp4"
EVERYTHING, LIST, OURS = "every frame", "every, as list", "ours (PyAV)"
TORCHCODEC, FOLDER = "torchcodec", "frame folder"
# by codec: what "ours" is to reach, in times the speed of the other way
AIMS = {"h264": {EVERYTHING: 2.5, TORCHCODEC: 1.2}, "vp9": {EVERYTHING: 1.8, TORCHCODEC: 0.9}}

SHORT_SIDE, CRF = 256, 20  # of the copies
GPU_CLIPS = 450  # a second, that a ResNet-50 with synthesizers trains on a fast GPU

LOADER_LOSS = 0.15  # that the whole loader is to lose at most of what decoding alone gives

Choose = Callable[[int], list[int]]
Way = Callable[[Path, Choose], object]
Times = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="*", type=Path, default=[REAL_CLIP], help="further videos, where present")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--workers", type=int, default=2, help="of the whole loader; 0 leaves that part out")
    parser.add_argument("--loader-clips", type=int, default=128, help="clips in a pass of the whole loader")
    parser.add_argument("--only-copies", action="store_true", help="measure copies of the --clips alone")
    args = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        if args.only_copies:
            report_copies(args.clips, Path(folder), args)
            return
        videos = [*make_videos(Path(folder)), *(clip for clip in args.clips if clip.exists())]
        ways = ways_at_hand()
        print(f"PyAV {av.__version__}, torch {torch.__version__}, {os.cpu_count()} cores, {args.repeats} repeats")
        with ExitStack() as stack:
            start = partial(ProcessPoolExecutor, 1, get_context("spawn"), tie_to_one_core)
            processes = {name: stack.enter_context(start()) for name in (*ways, FOLDER)}
            results = {video: measure_video(video, ways, processes, Path(folder), args) for video in videos}
        report_aims(results)
        if args.workers:
            for video in videos:
                report_loader(video, args)
            report_copies([clip for clip in args.clips if clip.exists()], Path(folder), args)


def ways_at_hand() -> dict[str, Way]:
    ways: dict[str, Way] = {EVERYTHING: decode_everything, LIST: decode_list, OURS: decode_clip}
    try:
        check_decoder(TORCHCODEC)
    except ImportError as error:
        print(f"torchcodec is left out: {error}")
    else:
        ways[TORCHCODEC] = decode_with_torchcodec
    return ways


def decode_everything(path: Path, choose: Choose) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return frames[choose(len(frames))]


def decode_list(path: Path, choose: Choose) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([frames[index] for index in choose(len(frames))])


def decode_with_torchcodec(path: Path, choose: Choose) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path))
    return decoder.get_frames_at(choose(decoder.metadata.num_frames)).data


def spread(num_frames: int) -> list[int]:
    return segment_indices(num_frames, NUM_FRAMES).tolist()


def window(num_frames: int, seconds: float) -> list[int]:
    """The same number of frames, evenly within 2 seconds around the middle."""
    length = min(num_frames, round(2 / seconds * num_frames))
    return ((num_frames - length) // 2 + segment_indices(length, NUM_FRAMES)).tolist()


def measure_video(
    video: Path, ways: dict[str, Way], processes: dict[str, Executor], folder: Path, args: argparse.Namespace
) -> dict[str, Times]:
    """Seconds for a clip, by sampling and way; prints them."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        seconds = float(container.duration / av.time_base)
        what = f"{stream.codec.canonical_name} {stream.width}x{stream.height}, {seconds:.1f} s"
    frame_folder = extract(video, folder / f"frames_{video.stem}")
    results = {}
    for sampling, choose in {"spread": spread, "2 seconds": partial(window, seconds=seconds)}.items():
        runs: dict[str, Callable[[], object]] = {name: partial(way, video, choose) for name, way in ways.items()}
        runs[FOLDER] = partial(decode_clip, frame_folder, choose)
        results[sampling] = times = measure(runs, processes, args.repeats, f"{video.name}, {sampling}")
        print(f"\n{video.name} ({what}), {NUM_FRAMES} frames, {sampling}")
        print(f"{'':<16}{'CPU ms':>10}{'clips/s/core':>14}{'ours is faster':>16}")
        for name, values in times.items():
            median = statistics.median(values)
            print(f"{name:<16}{median * 1e3:>10.1f}{1 / median:>14.1f}{ratio(times, name):>15.2f}x")
    return results


def measure(runs: dict[str, Callable[[], object]], processes: dict[str, Executor], repeats: int, what: str) -> Times:
    times: Times = {name: [] for name in runs}
    for repeat in tqdm(range(-2, repeats), desc=what, leave=False, disable=None):
        for name, run in runs.items():
            seconds = processes[name].submit(timed, run).result()
            if repeat >= 0:
                times[name].append(seconds)
    return times


def timed(run: Callable[[], object]) -> float:
    """CPU seconds that a second call takes; its result is thrown away in the process that made it."""
    run()
    start = time.process_time()
    run()
    return time.process_time() - start


def tie_to_one_core() -> None:
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def ratio(times: Times, name: str) -> float:
    """How many times faster ours is than another way."""
    return statistics.median(other / ours for other, ours in zip(times[name], times[OURS], strict=True))


def report_aims(results: dict[Path, dict[str, Times]]) -> None:
    print("\nours against the aims, medians over the videos of a codec")
    for codec, aims in AIMS.items():
        chosen = [times for video, times in results.items() if codec_of(video) == codec]
        for sampling in ("spread", "2 seconds"):
            for other, aim in aims.items():
                ratios = [ratio(times[sampling], other) for times in chosen if other in times[sampling]]
                if ratios:
                    reached = statistics.median(ratios)
                    verdict = "reached" if reached >= aim else "MISSED"
                    print(f"{codec:<6}{sampling:<11}{reached:6.2f} x {other:<16} aim {aim:.1f}: {verdict}")


def report_loader(video: Path, args: argparse.Namespace) -> None:
    """Clips per second and core of the whole loader and of decoding alone, each in `workers` processes."""
    cpu, wall = measure_loader(video, args)
    print(f"\n{video.name}, {args.workers} processes, training clips of 224 px, batches of 8")
    print(f"{'':<16}{'CPU ms':>10}{'clips/s/core':>14}{'by the clock':>14}")
    for name in cpu:
        seconds, clock = statistics.median(cpu[name]), statistics.median(wall[name])
        print(f"{name:<16}{seconds * 1e3:>10.1f}{1 / seconds:>14.1f}{1 / clock:>14.1f}")
    loss = [1 - statistics.median(a / b for a, b in zip(*kind.values(), strict=True)) for kind in (cpu, wall)]
    verdict = "reached" if loss[0] <= LOADER_LOSS else "MISSED"
    print(f"{'the loader loses':<24}{loss[0]:>16.1%}{loss[1]:>14.1%}  aim {LOADER_LOSS:.0%}: {verdict}")


def measure_loader(video: Path, args: argparse.Namespace) -> tuple[Times, Times]:
    """Seconds of the CPU and of the clock for a clip, of the whole loader and of decoding alone."""
    paths = PathTable.from_paths([video] * args.loader_clips)
    index = VideoIndex(paths, np.zeros(args.loader_clips, int), ("a",), video)
    whole = ClockedDataset(index, NUM_FRAMES, TrainTransform(224), training=True)
    whole.clocks = torch.zeros(args.workers, dtype=torch.float64).share_memory_()
    loader = create_loader(whole, batch_size=8, shuffle=False, workers=args.workers)
    cpu: Times = {"decoding alone": [], "whole loader": []}
    wall: Times = {"decoding alone": [], "whole loader": []}
    with ProcessPoolExecutor(args.workers) as pool:
        shares = [range(worker, args.loader_clips, args.workers) for worker in range(args.workers)]
        for repeat in range(-1, 5):
            start = time.perf_counter()
            used = sum(pool.map(decode_alone, [video] * args.workers, shares))
            middle, clocks, own = time.perf_counter(), whole.clocks.sum().item(), time.process_time()
            for _ in loader:
                pass
            end = time.perf_counter()
            if repeat >= 0:
                loading = whole.clocks.sum().item() - clocks + time.process_time() - own
                for name, seconds, clock in (
                    ("decoding alone", used, middle - start),
                    ("whole loader", loading, end - middle),
                ):
                    cpu[name].append(seconds / args.loader_clips)
                    wall[name].append(clock * args.workers / args.loader_clips)
    return cpu, wall


def report_copies(clips: list[Path], folder: Path, args: argparse.Namespace) -> None:
    """Bytes and speed of videos, of copies as x264 encodes by default, and of the copies of `prepare resize`."""
    print(
        f"\ncopies with a short side of at most {SHORT_SIDE} pixels; clips of {NUM_FRAMES} frames spread over the video"
    )
    print(f"{'':<44}{'bytes':>12}{'CPU ms':>8}{'faster':>8}{'loader: clips/s/core':>22}")
    seconds: Times = {}
    for clip in clips:
        copies = {"original": clip, "x264's defaults": folder / f"{clip.stem}_default.mp4"}
        copies["prepare resize"] = folder / f"{clip.stem}_resized.mp4"
        encode_by_default(clip, copies["x264's defaults"])
        assert resize_video((clip, copies["prepare resize"]), SHORT_SIDE, CRF).error is None
        with ExitStack() as stack:
            start = partial(ProcessPoolExecutor, 1, get_context("spawn"), tie_to_one_core)
            processes = {name: stack.enter_context(start()) for name in copies}
            runs = {name: partial(decode_clip, path, spread) for name, path in copies.items()}
            times = measure(runs, processes, args.repeats, f"copies of {clip.name}")
        for name, path in copies.items():
            faster = statistics.median(a / b for a, b in zip(times["x264's defaults"], times[name], strict=True))
            loading = statistics.median(measure_loader(path, args)[0]["whole loader"])
            seconds.setdefault(name, []).append(loading)
            size, median = path.stat().st_size, statistics.median(times[name])
            print(f"{clip.stem[:24]:<26}{name:<18}{size:>12,}{median * 1e3:>8.1f}{faster:>7.2f}x{1 / loading:>22.1f}")
    for name, values in seconds.items():
        rate = len(values) / sum(values)
        print(
            f"{name}: {rate:.1f} clips/s/core, {GPU_CLIPS / rate:.1f} cores for a GPU that trains {GPU_CLIPS} clips/s"
        )


def encode_by_default(source: Path, target: Path) -> None:
    """A copy of all frames, with nothing asked of x264 but the quality."""
    with VideoReader(source) as reader, av.open(str(target), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(reader.fps).limit_denominator(30000), options={"crf": str(CRF), "threads": "1"}
        )
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(reader.frames()):
            height, width = frame.shape[:2]
            scale = min(1.0, SHORT_SIDE / min(height, width))
            height, width = (round(side * scale) // 2 * 2 for side in (height, width))
            if number == 0:
                stream.height, stream.width = height, width
            picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


class ClockedDataset(VideoDataset):
    """Clips; what each worker has used of its CPU stands in `clocks` after each of them."""

    clocks: torch.Tensor

    def __getitem__(self, key: int | tuple[int, int]) -> Sample | UnreadableVideo:
        item = super().__getitem__(key)
        info = get_worker_info()
        assert info is not None
        self.clocks[info.id] = time.process_time()
        return item


def decode_alone(video: Path, share: range) -> float:
    """CPU seconds for what the loader decodes, with nothing done to it."""
    start = time.process_time()
    for number in share:
        rng = np.random.default_rng((0, 0, number))
        decode_clip(video, lambda num_frames, rng=rng: segment_indices(num_frames, NUM_FRAMES, rng).tolist())
    return time.process_time() - start


def make_videos(folder: Path) -> Iterator[Path]:
    """A scene of drifting texture and moving discs, with some grain, as two codecs see it."""
    for name, codec, width, height, fps, num_frames in (
        ("h264_10s.mp4", "libx264", 340, 256, 30, 300),
        ("vp9_4s.webm", "libvpx-vp9", 426, 240, 12, 48),
    ):
        path = folder / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(fps))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            frames = tqdm(
                scene(height, width, num_frames, fps),
                total=num_frames,
                desc=f"making {name}",
                leave=False,
                disable=None,
            )
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        yield path


def scene(height: int, width: int, num_frames: int, fps: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    texture = sum(
        functional.interpolate(
            torch.from_numpy(rng.standard_normal((1, 3, 2**octave, 2**octave)).astype(np.float32)),
            (2 * height, 2 * width),
            mode="bicubic",
        )
        / octave
        for octave in range(2, 8)
    )[0]
    texture = (128 + 40 * texture).permute(1, 2, 0).numpy()  # (2H, 2W, 3)
    rows, columns = np.mgrid[:height, :width]
    colours = rng.integers(0, 256, (4, 3))
    for number in range(num_frames):
        seconds = number / fps
        top = int(height / 2 * (1 + np.sin(seconds / 3)))
        left = int(width / 2 * (1 + np.cos(seconds / 4)))
        frame = texture[top : top + height, left : left + width].copy()
        for disc, colour in enumerate(colours):
            y = height * (0.5 + 0.4 * np.sin((1 + disc / 2) * seconds + disc))
            x = width * (0.5 + 0.4 * np.cos((0.7 + disc / 3) * seconds + 2 * disc))
            frame[(rows - y) ** 2 + (columns - x) ** 2 < (height / 10) ** 2] = colour
        frame += rng.normal(0, 3, frame.shape)
        yield frame.clip(0, 255).astype(np.uint8)


def extract(video: Path, folder: Path) -> Path:
    folder.mkdir()
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0), 1):
            Image.fromarray(frame.to_ndarray(format="rgb24")).save(folder / f"{number:05d}.jpg", quality=90)
    return folder


def codec_of(video: Path) -> str:
    with av.open(str(video)) as container:
        return container.streams.video[0].codec.canonical_name


if __name__ == "__main__":
    main()
