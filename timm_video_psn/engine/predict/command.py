"""The work of prediction: files, folders, cameras or streams in; lines, JSON, a CSV or an annotated video out."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from timm_video_psn.console import printable
from timm_video_psn.data import DecodeError, FrameStream, TimedFrame, is_live
from timm_video_psn.data.datasets.locate import accepted_endings, endings_in_words, list_folder, walk_videos
from timm_video_psn.data.video.frame_folder import is_frame_image
from timm_video_psn.files import atomic_path, csv_cell

if TYPE_CHECKING:
    from timm_video_psn.engine.predict.sliding_window import Span
    from timm_video_psn.engine.trained_model import Prediction, TrainedModel

_LIVE_WINDOW_SEC = 2.0
_CSV_COLUMNS = ("file", "start_sec", "end_sec", "rank", "label", "probability", "error")


def predict(options: argparse.Namespace, prog: str) -> int:
    """Predicts all inputs and writes the answers.

    Args:
        options: See `command_line.predict`.
        prog: Name of the command, which messages begin with.

    Returns:
        The exit code: 0; 1 if some of several inputs could not be read; 2 if none could.

    Raises:
        ValueError: The options or the model do not fit the inputs.
        DecodeError: A single input cannot be read; what was answered before it broke off is in the CSV file.
    """
    from timm_video_psn.engine.load_model import load

    inputs = expand_inputs(options.inputs)
    if options.video_out and (len(inputs) > 1 or is_live(inputs[0])):
        raise ValueError(f"--video-out copies one video file; found {len(inputs)} inputs, the first {inputs[0]}")
    _check_rates(inputs, options)
    _check_outputs(inputs, options)
    model = load(options.model, options.device)
    model.check_can_name(options.topk)
    print(f"device {model.precision}", file=sys.stderr)
    failures: list[DecodeError] = []
    with _Answers(options, prog, several=len(inputs) > 1) as answers:
        for path, outcome in _outcomes(model, inputs, options, answers):
            if outcome is not None:
                failures.append(outcome)
                answers.error(path, outcome)
    if failures and len(inputs) == 1:
        raise failures[0]
    if failures:
        print(f"{prog}: {len(failures)} of {len(inputs)} inputs could not be read", file=sys.stderr)
    return 0 if not failures else 1 if len(failures) < len(inputs) else 2


def _check_rates(inputs: Sequence[str], options: argparse.Namespace) -> None:
    """Raise, before anything is predicted, if times are needed of images that tell none."""
    timed = options.window is not None or options.stream or options.video_out or any(map(is_live, inputs))
    folders = [path for path in inputs if not is_live(path) and Path(path).is_dir()]
    if timed and folders and options.fps is None:
        raise ValueError(f"{folders[0]} is a folder of images without a frame rate; give one, for example --fps 12")


def _check_outputs(inputs: Sequence[str], options: argparse.Namespace) -> None:
    """Raise, before anything is predicted, if a file to write has no folder, or would take the place of another."""
    taken = {Path(path).resolve(): f"the input {path}" for path in inputs if not is_live(path)}
    for flag, path in (("--csv", options.csv), ("--video-out", options.video_out)):
        if path is None:
            continue
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{flag} {path}: there is no folder {path.parent}; make it, or write elsewhere")
        if path.is_dir() or path.resolve() in taken:
            what = taken.get(path.resolve(), "a folder")
            raise ValueError(f"{flag} {path} would overwrite {what}; give another name")
        taken[path.resolve()] = f"the file of {flag}"


def expand_inputs(inputs: Sequence[str]) -> list[str]:
    """Returns the inputs with folders of videos replaced by the videos in them, as training finds them.

    Args:
        inputs: Inputs as the user gave them.

    Raises:
        ValueError: A folder that holds neither videos nor images, or both.
    """
    found: list[str] = []
    for given in inputs:
        path = Path(given)
        if is_live(given) or not path.is_dir():
            found.append(given)
            continue
        walk = walk_videos(path)
        videos = [str(path / video) for video in walk.paths]
        if any(map(is_frame_image, list_folder(path)[1])):
            if videos:
                raise ValueError(
                    f"{given} holds images and {len(videos)} videos, for example {videos[0]}: is it a video stored as "
                    "frames, or a folder of videos? Move the images away, or give the videos one by one"
                )
            found.append(given)
        else:
            if not videos:
                passed_over = f"; files passed over: {endings_in_words(walk.ignored)}" if walk.ignored else ""
                raise ValueError(
                    f"{given} holds neither frame images nor videos{passed_over}; accepted are files ending in "
                    f"{accepted_endings()}"
                )
            found.extend(videos)
    return found


def _outcomes(
    model: TrainedModel, inputs: Sequence[str], options: argparse.Namespace, answers: _Answers
) -> Iterator[tuple[str, DecodeError | None]]:
    """Answer input by input; what kept one from being read comes back with its name."""
    if options.whole:
        for found in model.predict_many(
            inputs, options.topk, options.views, options.batch_size, options.workers, options.max_pixels
        ):
            if not found.error:
                answers.whole(found.video, found.top)
                if options.video_out:
                    _annotate_whole(found.video, found.top, options)
            yield found.video, DecodeError(found.video, found.error) if found.error else None
        return
    for path in inputs:
        try:
            spans = _slide(model, path, options, answers)
            if options.video_out:
                _annotate(path, spans, options)
        except DecodeError as error:
            yield path, error
        else:
            yield path, None


def _slide(model: TrainedModel, path: str, options: argparse.Namespace, answers: _Answers) -> list[Span]:
    """Predicts one input as its frames come, until it ends or the user interrupts a live one."""
    from timm_video_psn.engine.predict.frame_by_frame import predict_frames
    from timm_video_psn.engine.predict.sliding_window import predict_windows

    window = options.window or _LIVE_WINDOW_SEC
    spans = []
    with FrameStream(path, options.fps, options.max_pixels) as stream:
        batch = 1 if stream.live else options.batch_size
        stride = options.stride or window / 2
        frames = _limited(stream, options.duration)
        if options.stream:
            found = predict_frames(model, frames, window, options.stride, options.topk)
        else:
            found = predict_windows(model, frames, stream.fps, window, stride, options.topk, batch)
        try:
            for span in found:
                answers.span(path, span)
                if not stream.live:
                    spans.append(span)
        except KeyboardInterrupt:
            if not stream.live:
                raise
    return spans


def _limited(frames: FrameStream, duration: float | None) -> Iterator[TimedFrame]:
    return iter(frames) if duration is None else takewhile(lambda frame: frame.time_sec < duration, frames)


def _annotate_whole(path: str, top: Sequence[Prediction], options: argparse.Namespace) -> None:
    """A whole video is one span."""
    from timm_video_psn.engine.predict.sliding_window import Span

    _annotate(path, [Span(0.0, 0.0, top)], options)


def _annotate(path: str, spans: list[Span], options: argparse.Namespace) -> None:
    from timm_video_psn.engine.predict.overlay import annotate_video

    with FrameStream(path, options.fps, options.max_pixels) as stream:
        sound_of = Path(path) if Path(path).is_file() else None
        annotate_video(options.video_out, _limited(stream, options.duration), stream.fps, spans, sound_of)
    print(f"wrote {options.video_out}", file=sys.stderr)


class _Answers:
    """Where answers go: the terminal as text or JSON, and a CSV file, which gets its name when it is whole."""

    def __init__(self, options: argparse.Namespace, prog: str, several: bool) -> None:
        self.options = options
        self.prog = prog
        self.several = several
        self._csv: Any = None

    def __enter__(self) -> _Answers:
        with ExitStack() as stack:
            if self.options.csv:
                temporary = stack.enter_context(atomic_path(self.options.csv))
                file: TextIO = stack.enter_context(temporary.open("w", newline="", encoding="utf-8"))
                self._csv = csv.DictWriter(file, _CSV_COLUMNS)
                self._csv.writeheader()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def whole(self, path: str, top: Sequence[Prediction]) -> None:
        """The classes of a whole video."""
        self._store(path, top, {})
        if self.options.json:
            return
        if self.several:
            print(printable(path))
        for item in top:
            print(f"{item.probability:7.2%}  {printable(item.label)}")

    def span(self, path: str, span: Span) -> None:
        """The classes of a stretch of a video, while more of it may be coming."""
        times = {"start_sec": round(span.start_sec, 3), "end_sec": round(span.end_sec, 3)}
        self._store(path, span.top, times)
        if self.options.json:
            return
        name = f"{printable(path)}  " if self.several else ""
        classes = ",  ".join(f"{item.probability:.1%} {printable(item.label)}" for item in span.top)
        print(f"{name}{span.start_sec:8.2f} - {span.end_sec:.2f} s  {classes}", flush=True)

    def error(self, path: str, error: DecodeError) -> None:
        """An input that could not be read to its end; for a single input, the command's own error says so."""
        if self.several:
            print(f"{self.prog}: {printable(str(error))}", file=sys.stderr)
        if self.options.json:
            print(json.dumps({"file": path, "model": self.options.model, "error": error.reason}))
        if self._csv:
            self._csv.writerow({"file": csv_cell(path), "error": csv_cell(error.reason)})

    def _store(self, path: str, top: Sequence[Prediction], times: dict[str, float]) -> None:
        """JSON line and CSV rows."""
        if self.options.json:
            found = [item._asdict() for item in top]
            print(json.dumps({"file": path, "model": self.options.model, **times, "top": found}), flush=True)
        for rank, item in enumerate(top, 1) if self._csv else ():
            scored = {"label": csv_cell(item.label), "probability": f"{item.probability:.6f}"}
            self._csv.writerow({"file": csv_cell(path), **times, "rank": rank, **scored})
