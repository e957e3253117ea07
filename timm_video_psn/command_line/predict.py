"""The command line of prediction."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import add_flags
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.console import MODEL_SOURCES, add_old_name

_FIRST = ("inputs", "model", "topk", "views", "window", "stream", "device", "json", "csv", "video_out")
_EXAMPLES = (
    ("clip.mp4 --model output/RUN", "the five most likely classes of a video"),
    ("videos --model hf-hub:USER/NAME --csv classes.csv", "every video of a folder, as a table"),
    ("clip.mp4 --model output/RUN --window 2 --video-out labelled.mp4", "a window of two seconds that slides"),
)


def parse_predict_options(argv: Sequence[str] | None = None, prog: str = "predict_video.py") -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    parser = Parser(prog, "Predict the classes of videos.", _EXAMPLES, _FIRST)
    add = parser.add_argument
    sources = "Video files, folders of them, folders of frame images, the number of a camera (0), URLs of streams"
    add("inputs", nargs="+", metavar="INPUT", help=sources)
    add("--model", required=True, metavar="FOLDER", help=f"Trained model: {MODEL_SOURCES}")
    add("--topk", type=int, default=5, metavar="K", help="Number of classes to show (default: %(default)s)")
    add("--views", metavar="CLIPSxCROPS", help="Views of each video, for example 3x3 (default: the model's own)")
    add_flags(parser, "device")
    add("--batch-size", "-b", type=int, default=8, metavar="N", help="Clips per batch (default: 8)")
    add("--workers", "-j", type=int, default=1, metavar="N", help="Threads that decode (default: %(default)s)")
    add_flags(parser, "max_pixels")
    add("--window", type=float, metavar="SEC", help="Length of a sliding window (default for cameras and streams: 2)")
    add("--stride", type=float, metavar="SEC", help="Time between the starts of windows (default: half a window)")
    stream = "Look at each frame once (causal models); a window has as many frames as a clip"
    add("--stream", action="store_true", help=stream)
    add("--duration", type=float, metavar="SEC", help="Stop after this much of each input")
    add("--fps", type=float, metavar="X", help="Frame rate of folders of images, for windows")
    add("--json", action="store_true", help="Print JSON, one line per prediction")
    add("--csv", type=Path, metavar="FILE", help="Write a CSV file, one row per time span and class")
    add("--video-out", type=Path, metavar="FILE.mp4", help="Write a copy of the video with the classes in the picture")
    add_flags(parser, "debug")
    add_old_name(parser, "--top", "--topk")
    add_old_name(parser, "--traceback", "--debug")
    options = parser.parse_args(argv)
    for name in ("topk", "batch_size", "workers", "window", "stride", "duration", "fps"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"--{name.replace('_', '-')} {value}: must be above 0, and finite")
    if options.video_out and options.video_out.suffix.lower() != ".mp4":
        parser.error(f"--video-out {options.video_out}: the copy is an mp4; end the name in .mp4")
    from timm_video_psn.data import is_file_url, is_live  # not at the top: --help needs no torch

    live = any(is_live(source) and not is_file_url(source) for source in options.inputs)
    windows = options.window is not None or options.stream or live
    options.whole = not windows
    for name in ("stride", "duration") if not windows else ("views",):
        if getattr(options, name) is not None:
            belongs = "whole videos, not to windows" if windows else "windows; without --window SEC videos stay whole"
            parser.error(f"--{name} belongs to {belongs}")
    return options
