"""The work of `timm-video-psn prepare`: check, resize, extract, show or pack the videos of a data set."""

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

from timm_video_psn.console import CommandEnded, printable
from timm_video_psn.data.datasets.index import VideoIndex, videos_of_both
from timm_video_psn.data.datasets.parsing import NoAnnotationsError
from timm_video_psn.data.parallel import in_parallel
from timm_video_psn.data.registry import read_index, splits_of
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.data.tools.check import advise, check_video, listed_videos, summarize
from timm_video_psn.data.tools.contact_sheet import contact_sheet
from timm_video_psn.data.tools.reencode import (
    Outcome,
    extract_frames,
    pairs_below,
    resize_video,
)
from timm_video_psn.files import atomic_path, write_text

_FEW = 200  # videos, at three frames each, that are read before other processes would have begun
_SHOWN = 20  # unreadable videos that are named; the report names all
_logger = logging.getLogger(__name__)


def run_prepare(options: argparse.Namespace) -> int:
    """Runs the command that was asked for; after Ctrl-C, says what the same command would do.

    Args:
        options: See `command_line.prepare`.

    Returns:
        The exit code: 0, or 1 where videos are unreadable or could not be converted.
    """
    try:
        return _COMMANDS[options.command](options)
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
    look = partial(check_video, thorough=options.thorough, max_pixels=options.max_pixels)
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
    settings = {"crf": options.crf, "key_frame_interval": options.key_frame_interval, "max_pixels": options.max_pixels}
    convert = partial(resize_video, short_side=options.short_side, **settings)
    return _convert_all(options, convert, lambda path: path.with_suffix(".mp4"))


def frames(options: argparse.Namespace) -> int:
    """Extracts the frames of every video of a folder."""
    convert = partial(
        extract_frames, short_side=options.short_side, quality=options.quality, max_pixels=options.max_pixels
    )
    return _convert_all(options, convert, lambda path: path.with_suffix(""))


def show(options: argparse.Namespace) -> int:
    """Draws a contact sheet of one video."""
    sheet = contact_sheet(
        *(options.video, options.num_frames, options.draws, options.seed),
        *(options.sampling, options.test_sampling, options.test_clips, options.max_pixels),
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


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    function.__name__: function for function in (check, resize, frames, show, shards)
}
