"""Prepares a data set for training: `timm-video-psn prepare COMMAND`.

    check   reads every video; reports missing and damaged ones, frame sizes and rates, and whether the counts and the
            class order are the official ones
    resize  re-encodes the videos to a short side of 256 or 320 pixels, so that training decodes less
    frames  extracts the frames of each video into a folder of JPEG images
    show    draws the frames of one video that training, validation and a test use
    shards  packs a data set into tar files, which training streams from a folder or a web server

The originals are never modified. An output gets its name when it is complete, so an interrupted command resumes when it
is run again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from timm_video_psn.data.clips.sampling import SAMPLINGS, TEST_SAMPLINGS
from timm_video_psn.data.datasets.index import VideoIndex, videos_of_both
from timm_video_psn.data.datasets.parsing import NoAnnotationsError
from timm_video_psn.data.parallel import in_parallel
from timm_video_psn.data.registry import ANNOTATED, DATASETS, read_index, splits_of
from timm_video_psn.data.shards.writer import Limits, write_shards
from timm_video_psn.data.tools.advice import advise
from timm_video_psn.data.tools.contact_sheet import contact_sheet
from timm_video_psn.data.tools.health import check_video, listed_videos, summarize
from timm_video_psn.data.tools.reencode import Outcome, extract_frames, pairs_below, resize_video

_USER_ERRORS = (ValueError, OSError)
_FEW = 200  # videos, at three frames each, that are looked at before other processes would have begun


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, 1 where videos are unreadable or could not be converted, 2 for an error, 130 after Ctrl-C.
    """
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except _USER_ERRORS as error:
        print(f"prepare {options.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = "" if options.command in ("check", "show") else "; finished files are kept, the same command resumes"
        print(f"prepare {options.command}: stopped{again}", file=sys.stderr)
        return 128 + signal.SIGINT


def check(options: argparse.Namespace) -> int:
    """Reads every video of a data set; prints a summary and what to do, and writes the JSON report."""
    files = _given_lists(options)
    reports: dict[str, Any] = {}
    train: VideoIndex | None = None
    for split in splits_of(options.dataset):
        try:
            index = read_index(options.dataset, options.data_dir, split, files)
        except _USER_ERRORS as error:
            absent = split != "val" and isinstance(error, NoAnnotationsError)
            if split == "train" and not absent:
                raise  # the other splits are not understood without it
            says_enough = split == "test" and absent
            print(f"{split}: {'no annotations; only predictions need this split' if says_enough else error}")
            reports[split] = {"absent" if absent else "error": str(error)}
            continue
        reports[split] = _check_split(options, split, index, train)
        train = index if split == "train" else train
        if index.shared_split:
            print("train and val are the same videos: the data set does not separate them")
            break
    if all("videos" not in part for part in reports.values()):
        malformed = [part["error"] for part in reports.values() if "error" in part]
        raise ValueError(malformed[0] if malformed else reports["train"]["absent"])
    report = {"dataset": options.dataset, "data_dir": os.fspath(options.data_dir or ""), "splits": reports}
    _write_whole(options.report, json.dumps(report, indent=1, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    print(f"report: {options.report}")
    return int(any("error" in part or part.get("missing") or part.get("unreadable") for part in reports.values()))


def _check_split(
    options: argparse.Namespace, split: str, index: VideoIndex, train: VideoIndex | None
) -> dict[str, Any]:
    """The report of a split, printed, too; with `train`, also the videos that it shares with that."""
    look = partial(check_video, thorough=options.thorough)
    workers = options.workers if options.thorough or len(index) > _FEW else 1
    results = list(in_parallel(look, list(listed_videos(index)), workers, f"check {split}"))
    report = summarize(options.dataset, split, index, results)
    report["also_in_train"] = videos_of_both(train, index) if train else []
    report["advice"] = advise(options.dataset, split, report, index.class_names)
    print(f"{split}: {_in_words(report)}")
    for line in (*report["notes"], *report["advice"]):
        print(f"  - {line}")
    return report


def resize(options: argparse.Namespace) -> int:
    """Re-encodes every video of a folder."""
    convert = partial(resize_video, short_side=options.short_side, crf=options.crf)
    return _convert_all(options, convert, lambda path: path.with_suffix(".mp4"))


def frames(options: argparse.Namespace) -> int:
    """Extracts the frames of every video of a folder."""
    convert = partial(extract_frames, short_side=options.short_side, quality=options.quality)
    return _convert_all(options, convert, lambda path: path.with_suffix(""))


def show(options: argparse.Namespace) -> int:
    """Draws a contact sheet of one video."""
    sheet = contact_sheet(
        *(options.video, options.num_frames, options.draws, options.seed),
        *(options.sampling, options.test_sampling, options.test_clips),
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.output.with_name(f".{options.output.name}.{os.getpid()}.tmp")
    try:
        sheet.save(temporary, format="PNG")
        temporary.replace(options.output)
    finally:
        temporary.unlink(missing_ok=True)
    print(options.output)
    return 0


def shards(options: argparse.Namespace) -> int:
    """Packs a data set into tar shards."""
    given = _given_lists(options)
    splits = {split: read_index(options.dataset, options.data_dir, split, given) for split in options.split}
    limits = Limits(options.max_videos_per_shard, options.max_shard_bytes)
    written = write_shards(options.dataset, splits, options.out, limits)
    for path, reason in written.missing[:20]:
        print(f"{path}: {reason}", file=sys.stderr)
    if len(written.missing) > 20:
        print(f"... and {len(written.missing) - 20} more", file=sys.stderr)
    print(
        f"{written.videos} videos, {written.num_bytes:,} bytes: {written.new} shards written, {written.kept} already "
        f"complete; {len(written.missing)} videos are missing"
    )
    print(f"train on them with --dataset shards --data-dir {options.out}")
    return int(bool(written.missing))


def _convert_all(
    options: argparse.Namespace, convert: Callable[[tuple[Path, Path]], Outcome], rename: Callable[[Path], Path]
) -> int:
    """Converts all videos below `data_dir` to the same places below `output`."""
    pairs = pairs_below(options.data_dir, options.output, rename)
    results = list(in_parallel(convert, pairs, options.workers, options.command))
    failed = [result for result in results if result.error]
    for result in failed[:20]:
        print(f"{result.path}: {result.error}", file=sys.stderr)
    if len(failed) > 20:
        print(f"... and {len(failed) - 20} more", file=sys.stderr)
    there = sum(result.was_there for result in results)
    print(f"{len(results) - len(failed) - there} converted, {there} already complete, {len(failed)} failed")
    return int(bool(failed))


def _in_words(report: dict[str, Any]) -> str:
    releases = ", ".join(report["counts_like"])
    rates = ", ".join(f"{rate} ({count})" for rate, count in list(report["fps"].items())[:3])
    sizes = ", ".join(f"{size} ({count})" for size, count in list(report["sizes"].items())[:3])
    return (
        f"{report['readable']} of {report['videos']} videos can be read"
        + (f" (as many as in {releases})" if releases else "")
        + f", {len(report['missing'])} missing, {len(report['unreadable'])} unreadable; "
        f"{report['classes']} classes, label order {report['label_order_sha256'][:12]} "
        f"({report['label_order'] or 'of no known data set'}); "
        + (f"version {report['version']}; " if report["version"] else "")
        + f"median {report['frames']['median']:g} frames ({report['frames']['least']} to "
        f"{report['frames']['most']}), sizes {sizes or 'none'}, frames per second {rates or 'none'}"
    )


def _given_lists(options: argparse.Namespace) -> dict[str, Path]:
    """Annotation files by split, of those that were named."""
    return {split: path for split in ("train", "val", "test") if (path := getattr(options, f"{split}_list"))}


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _names(text: str) -> list[str]:
    """Names, parted by commas."""
    return text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="timm-video-psn prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    workers = os.cpu_count() or 1

    add = commands.add_parser("check", help="report missing and damaged videos").add_argument
    add("--dataset", default="folder", choices=sorted({*DATASETS, *ANNOTATED}), help="default: %(default)s")
    add("--data-dir", type=Path, required=True, metavar="DIR", help="folder of the data set")
    for split in ("train", "val", "test"):
        add(f"--{split}-list", type=Path, metavar="FILE", help=f"{split} annotations, if they lie elsewhere")
    add("--thorough", action="store_true", help="decode every frame, not only the first, middle and last")
    add("--report", type=Path, default=Path("check.json"), metavar="FILE.json", help="report; default: %(default)s")
    add("--workers", "-j", type=int, default=workers, help="processes; default: %(default)s")
    commands.choices["check"].set_defaults(run=check)

    for name, run, what in (("resize", resize, "re-encode videos smaller"), ("frames", frames, "extract frames")):
        add = commands.add_parser(name, help=what).add_argument
        add("--data-dir", type=Path, required=True, metavar="DIR", help="folder with videos, at any depth")
        add("--output", type=Path, required=True, metavar="DIR", help="folder for the copies, with the same structure")
        short_side = "largest short side; frames are never enlarged; default: %(default)s"
        add("--short-side", type=int, default=256, metavar="PX", help=short_side)
        add("--workers", "-j", type=int, default=workers, help="processes; default: %(default)s")
        commands.choices[name].set_defaults(run=run)
    crf = "x264's constant rate factor, lower is better; default: %(default)s"
    commands.choices["resize"].add_argument("--crf", type=int, default=20, help=crf)
    commands.choices["frames"].add_argument(
        "--quality", type=int, default=90, help="JPEG quality; default: %(default)s"
    )

    add = commands.add_parser("show", help="draw the frames that sampling picks").add_argument
    add("video", type=Path, help="video file or frame folder")
    add("--output", type=Path, default=Path("frames.png"), metavar="FILE.png", help="picture; default: %(default)s")
    add("--num-frames", type=int, default=8, metavar="T", help="frames of a clip; default: %(default)s")
    add("--draws", type=int, default=3, help="number of training clips; default: %(default)s")
    add("--seed", type=int, default=0, help="seed of the training clips; default: %(default)s")
    sampling = "sampling of training and validation; default: %(default)s"
    add("--sampling", choices=list(SAMPLINGS), default="segments", help=sampling)
    add("--test-sampling", choices=list(TEST_SAMPLINGS), help="sampling of the test; default: --sampling")
    add("--test-clips", type=int, metavar="N", help="clips of the test; default: the sampling's usual number")
    commands.choices["show"].set_defaults(run=show)

    add = commands.add_parser("shards", help="pack the videos into tar files").add_argument
    add("--dataset", default="folder", choices=sorted({*DATASETS, *ANNOTATED}), help="default: %(default)s")
    add("--data-dir", type=Path, required=True, metavar="DIR", help="folder of the data set")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write the shards and their index to")
    add("--split", type=_names, default=["train", "val"], metavar="NAME,NAME", help="splits; default: train,val")
    for split in ("train", "val", "test"):
        add(f"--{split}-list", type=Path, metavar="FILE", help=f"{split} annotations, if they lie elsewhere")
    add("--max-videos-per-shard", type=int, default=256, metavar="N", help="videos per shard; default: %(default)s")
    add("--max-shard-bytes", type=int, default=256 * 2**20, metavar="N", help="bytes per shard; default: %(default)s")
    commands.choices["shards"].set_defaults(run=shards)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
