"""Prepares a data set for training: `timm-video-psn prepare COMMAND`.

    check   reads every video; reports missing and damaged ones, frame sizes and rates, and whether the counts and the
            class order are the official ones
    resize  re-encodes the videos to a short side of 256 pixels and near key frames, so that training decodes faster
    frames  extracts the frames of each video into a folder of JPEG images
    show    draws the frames of one video that training, validation and a test use
    shards  packs a data set into tar files, which training streams from a folder or a web server

The originals are never modified. An output gets its name when it is complete, so an interrupted command resumes when it
is run again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from timm_video_psn.console import CommandEnded, add_old_name, positive_integer, printable, run_command
from timm_video_psn.data.clips.sampling import SAMPLINGS, TEST_SAMPLINGS
from timm_video_psn.data.datasets.index import VideoIndex, videos_of_both
from timm_video_psn.data.datasets.parsing import NoAnnotationsError
from timm_video_psn.data.parallel import in_parallel
from timm_video_psn.data.registry import ANNOTATED, DATASETS, read_index, splits_of
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.data.tools.check import advise, check_video, listed_videos, summarize
from timm_video_psn.data.tools.contact_sheet import contact_sheet
from timm_video_psn.data.tools.reencode import (
    KEY_FRAME_INTERVAL,
    Outcome,
    extract_frames,
    pairs_below,
    resize_video,
)
from timm_video_psn.files import atomic_path, write_text

_FEW = 200  # videos, at three frames each, that are read before other processes would have begun
_SHOWN = 20  # unreadable videos that are named; the report names all
_logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, 1 where videos are unreadable or could not be converted, 2 for an error, 130 after Ctrl-C.
    """
    options = _parser().parse_args(argv)
    return run_command(f"prepare {options.command}", lambda: _run(options), options.debug)


def _run(options: argparse.Namespace) -> int:
    """Runs the command that was asked for; after Ctrl-C, says what the same command would do."""
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        again = "" if options.command in ("check", "show") else "; finished files are kept, the same command resumes"
        raise CommandEnded(f"stopped{again}", 128 + signal.SIGINT) from None


def check(options: argparse.Namespace) -> int:
    """Reads every video of a data set, reports what it finds and what to do, and writes the JSON report."""
    files = _given_lists(options)
    reports: dict[str, Any] = {}
    train: VideoIndex | None = None
    for split in splits_of(options.dataset):
        try:
            index = read_index(options.dataset, options.data_dir, split, files)
        except (ValueError, OSError) as error:
            absent = split != "val" and isinstance(error, NoAnnotationsError)
            if split == "train" and not absent:
                raise  # the other splits are not understood without it
            says_enough = split == "test" and absent
            _logger.info(f"{split}: {'no annotations; only predictions need this split' if says_enough else error}")
            reports[split] = {"absent" if absent else "error": str(error)}
            continue
        reports[split] = _check_split(options, split, index, train)
        train = index if split == "train" else train
        if index.shared_split:
            _logger.info("train and val are the same videos: the data set does not separate them")
            break
    if all("videos" not in part for part in reports.values()):
        malformed = [part["error"] for part in reports.values() if "error" in part]
        raise ValueError(malformed[0] if malformed else reports["train"]["absent"])
    report = {"dataset": options.dataset, "data_dir": os.fspath(options.data_dir or ""), "splits": reports}
    options.report.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.report, json.dumps(report, indent=1, ensure_ascii=False))
    _logger.info(f"report: {options.report}")
    return int(any("error" in part or part.get("missing") or part.get("unreadable") for part in reports.values()))


def _check_split(
    options: argparse.Namespace, split: str, index: VideoIndex, train: VideoIndex | None
) -> dict[str, Any]:
    """Checks a split, logs and returns its report; with `train`, also names the videos that both have."""
    look = partial(check_video, thorough=options.thorough)
    workers = options.workers if options.thorough or len(index) > _FEW else 1
    results = list(in_parallel(look, list(listed_videos(index)), workers, f"check {split}"))
    report = summarize(options.dataset, split, index, results)
    report["also_in_train"] = videos_of_both(train, index) if train else []
    report["advice"] = advise(options.dataset, split, report, index.class_names)
    _logger.info(f"{split}: {_in_words(report)}")
    for line in (*report["notes"], *report["advice"]):
        _logger.info(f"  - {line}")
    return report


def resize(options: argparse.Namespace) -> int:
    """Re-encodes every video of a folder."""
    settings = {"crf": options.crf, "key_frame_interval": options.key_frame_interval}
    convert = partial(resize_video, short_side=options.short_side, **settings)
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
    with atomic_path(options.output) as temporary:
        sheet.save(temporary, format="PNG")
    _logger.info(str(options.output))
    return 0


def shards(options: argparse.Namespace) -> int:
    """Packs a data set into tar shards."""
    given = _given_lists(options)
    splits = {split: read_index(options.dataset, options.data_dir, split, given) for split in options.split}
    limits = ShardLimits(options.max_videos_per_shard, options.max_shard_bytes)
    written = write_shards(options.dataset, splits, options.output, limits)
    _name_failed(written.missing)
    _logger.info(
        f"{written.videos} videos, {written.num_bytes:,} bytes: {written.new} shards written, {written.kept} already "
        f"complete; {len(written.missing)} videos are missing"
    )
    _logger.info(f"train on them with --dataset shards --data-dir {options.output}")
    return int(bool(written.missing))


def _convert_all(
    options: argparse.Namespace, convert: Callable[[tuple[Path, Path]], Outcome], rename: Callable[[Path], Path]
) -> int:
    """Converts all videos below `data_dir` to the same places below `output`."""
    pairs = pairs_below(options.data_dir, options.output, rename)
    results = list(in_parallel(convert, pairs, options.workers, options.command))
    failed = [(str(result.path), result.error) for result in results if result.error]
    _name_failed(failed)
    there = sum(result.was_there for result in results)
    before, after = (sum(sizes) for sizes in zip(*(result.num_bytes for result in results), strict=True))
    size = f"; {before / 1e6:,.1f} MB became {after / 1e6:,.1f} MB" if after else ""
    _logger.info(
        f"{len(results) - len(failed) - there} converted, {there} already complete, {len(failed)} failed{size}"
    )
    return int(bool(failed))


def _name_failed(failed: Sequence[tuple[str, str]]) -> None:
    """Names the first videos that could not be read, and why."""
    for path, reason in failed[:_SHOWN]:
        _logger.warning("%s: %s", printable(path), printable(reason))
    if len(failed) > _SHOWN:
        _logger.warning("... and %d more", len(failed) - _SHOWN)


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
    """Annotation files by split, as far as they were given."""
    return {split: path for split in ("train", "val", "test") if (path := getattr(options, f"{split}_list"))}


def _names(text: str) -> list[str]:
    """Names, separated by commas."""
    return text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="timm-video-psn prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    workers = os.cpu_count() or 1

    def command(run: Callable[[argparse.Namespace], int], what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__, help=what, description=run.__doc__, parents=[shared])
        added.set_defaults(run=run)
        return added

    def add_data_set(to: argparse.ArgumentParser) -> None:
        to.add_argument(
            *("--dataset",), default="folder", choices=sorted({*DATASETS, *ANNOTATED}), help="default: %(default)s"
        )
        to.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="folder of the data set")
        for split in ("train", "val", "test"):
            to.add_argument(
                f"--{split}-list", type=Path, metavar="FILE", help=f"{split} annotations, if they lie elsewhere"
            )

    added = command(check, "report missing and damaged videos")
    add_data_set(added)
    add = added.add_argument
    add("--thorough", action="store_true", help="decode every frame, not only the first, middle and last")
    add("--report", type=Path, default=Path("check.json"), metavar="FILE.json", help="report; default: %(default)s")
    add("--workers", "-j", type=int, default=workers, help="processes; default: %(default)s")

    copies, largest = [], "largest short side; frames are never enlarged; default: %(default)s"
    for run, what in ((resize, "re-encode videos smaller, to load faster"), (frames, "extract frames")):
        copies.append(command(run, what))
        add = copies[-1].add_argument
        add("--data-dir", type=Path, required=True, metavar="DIR", help="folder with videos, at any depth")
        add("--output", type=Path, required=True, metavar="DIR", help="folder for the copies, with the same structure")
        add("--short-side", type=int, default=256, metavar="PX", help=largest)
        add("--workers", "-j", type=int, default=workers, help="processes; default: %(default)s")
    add = copies[0].add_argument
    add("--crf", type=int, default=20, help="x264's constant rate factor, lower is better; default: %(default)s")
    keys = "frames between key frames; more make smaller files that load more slowly; default: %(default)s"
    add("--key-frame-interval", type=positive_integer, default=KEY_FRAME_INTERVAL, metavar="N", help=keys)
    copies[1].add_argument("--quality", type=int, default=90, help="JPEG quality; default: %(default)s")

    add = command(show, "draw the frames that sampling picks").add_argument
    add("video", type=Path, help="video file or frame folder")
    add("--output", type=Path, default=Path("frames.png"), metavar="FILE.png", help="picture; default: %(default)s")
    add("--num-frames", type=int, default=8, metavar="T", help="frames of a clip; default: %(default)s")
    add("--draws", type=int, default=3, help="number of training clips; default: %(default)s")
    add("--seed", type=int, default=0, help="seed of the training clips; default: %(default)s")
    add(
        "--sampling",
        choices=list(SAMPLINGS),
        default="segments",
        help="sampling of training; default: %(default)s",
    )
    add("--test-sampling", choices=list(TEST_SAMPLINGS), help="sampling of the test; default: --sampling")
    add("--test-clips", type=int, metavar="N", help="clips of the test; default: the sampling's usual number")

    added = command(shards, "pack the videos into tar files")
    add_data_set(added)
    add = added.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="folder for the shards and their index")
    add("--split", type=_names, default=["train", "val"], metavar="NAME,NAME", help="splits; default: train,val")
    add("--max-videos-per-shard", type=int, default=256, metavar="N", help="videos per shard; default: %(default)s")
    add("--max-shard-bytes", type=int, default=256 * 2**20, metavar="N", help="bytes per shard; default: %(default)s")
    add_old_name(added, "--out", "--output")
    return parser
