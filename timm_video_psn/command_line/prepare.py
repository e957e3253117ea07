"""The command line of data preparation: a command for each step, with the options that it needs."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import add_flags
from timm_video_psn.command_line.names import FILE_DATASETS, KEY_FRAME_INTERVAL, SAMPLINGS, TEST_SAMPLINGS
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.console import add_old_name, positive_integer
from timm_video_psn.engine.train.options import sampling_name

_ABOUT = """Prepare a data set for training.

The originals are never modified. An output gets its name when it is complete, so an interrupted command resumes when it
is run again."""
_EXAMPLES = (
    ("check --data-dir videos", "damaged and missing videos, and what to do about them"),
    ("resize --data-dir videos --output small", "copies that decode several times faster"),
    ("shards --data-dir videos --output shards", "tar files, to train from a disk or a web server"),
)
_WORKERS = os.cpu_count() or 1


def parse_prepare_options(
    argv: Sequence[str] | None = None, prog: str = "timm-video-psn prepare"
) -> argparse.Namespace:
    """Options from the command line; `command` is the name of the step.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    parser = Parser(prog, _ABOUT, _EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for add in (_check, _resize, _frames, _show, _shards):
        add(commands)
    return parser.parse_args(argv)


def _command(commands: argparse._SubParsersAction, name: str, text: str, example: str, about: str = "") -> Parser:
    """A command with the option that all have."""
    parser: Parser = commands.add_parser(name, help=text, about=about or text, examples=[(example, text)])
    add_flags(parser, "debug")
    return parser


def _data_set(parser: Parser) -> None:
    add = parser.add_argument
    add("--dataset", default="folder", choices=FILE_DATASETS, help="Data set (default: %(default)s)")
    add("--data-dir", type=Path, required=True, metavar="DIR", help="Folder of the data set")
    for split in ("train", "val", "test"):
        annotations = f"Annotations of the split {split}, if they lie elsewhere"
        add(f"--{split}-list", type=Path, metavar="FILE", help=annotations)


def _workers(parser: Parser) -> None:
    help = "Processes (default: %(default)s)"
    parser.add_argument("--workers", "-j", type=int, default=_WORKERS, metavar="N", help=help)


def _check(commands: argparse._SubParsersAction) -> None:
    about = (
        "Read every video; report missing and damaged ones, frame sizes and rates, and whether the counts\n"
        "and the class order are the official ones"
    )
    parser = _command(commands, "check", "Report missing and damaged videos", "--data-dir videos --thorough", about)
    _data_set(parser)
    add = parser.add_argument
    add("--thorough", action="store_true", help="Decode every frame, not only the first, middle and last")
    add_flags(parser, "max_pixels")
    report = "Report (default: %(default)s)"
    add("--report", type=Path, default=Path("check.json"), metavar="FILE.json", help=report)
    _workers(parser)


def _copies(commands: argparse._SubParsersAction, name: str, text: str) -> Parser:
    """A command that writes a copy of every video."""
    parser = _command(commands, name, text, "--data-dir videos --output copies")
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, metavar="DIR", help="Folder with videos, at any depth")
    add("--output", type=Path, required=True, metavar="DIR", help="Folder for the copies, with the same structure")
    largest = "Largest short side; frames are never enlarged (default: %(default)s)"
    add("--short-side", type=int, default=256, metavar="PX", help=largest)
    add_flags(parser, "max_pixels")
    _workers(parser)
    return parser


def _resize(commands: argparse._SubParsersAction) -> None:
    add = _copies(commands, "resize", "Re-encode videos smaller and with near key frames, to load faster").add_argument
    add("--crf", type=int, default=20, metavar="N", help="x264's constant rate factor (default: %(default)s)")
    keys = "Frames between key frames; more make smaller files that load more slowly (default: %(default)s)"
    add("--key-frame-interval", type=positive_integer, default=KEY_FRAME_INTERVAL, metavar="N", help=keys)


def _frames(commands: argparse._SubParsersAction) -> None:
    add = _copies(commands, "frames", "Extract the frames of each video into a folder of JPEG images").add_argument
    add("--quality", type=int, default=90, metavar="N", help="JPEG quality (default: %(default)s)")


def _show(commands: argparse._SubParsersAction) -> None:
    text = "Draw the frames of a video that training, validation and a test use"
    parser = _command(commands, "show", text, "clip.mp4 --num-frames 8 --sampling dense")
    add_flags(parser, "max_pixels")
    add = parser.add_argument
    add("video", type=Path, metavar="VIDEO", help="Video file, or folder of frame images")
    add("--output", type=Path, default=Path("frames.png"), metavar="FILE.png", help="Picture (default: %(default)s)")
    add("--num-frames", type=int, default=8, metavar="T", help="Frames of a clip (default: %(default)s)")
    add("--draws", type=int, default=3, metavar="N", help="Number of training clips (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="Seed of the training clips (default: %(default)s)")
    train, test = "Sampling of training (default: %(default)s)", "Sampling of the test (default: --sampling)"
    add("--sampling", type=sampling_name, choices=SAMPLINGS, default="segments", help=train)
    add("--test-sampling", type=sampling_name, choices=TEST_SAMPLINGS, help=test)
    clips = "Clips of the test (default: the sampling's usual number)"
    add("--test-clips", type=int, metavar="N", help=clips)


def _shards(commands: argparse._SubParsersAction) -> None:
    text = "Pack a data set into tar files, which training streams from a folder or a web server"
    parser = _command(commands, "shards", text, "--data-dir videos --output shards")
    _data_set(parser)
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="Folder for the shards and their index")
    splits = "Splits (default: train,val)"
    add("--split", type=_names, default=["train", "val"], metavar="NAME,NAME", help=splits)
    videos, size = "Videos per shard (default: %(default)s)", "Bytes per shard (default: %(default)s)"
    add("--max-videos-per-shard", type=int, default=256, metavar="N", help=videos)
    add("--max-shard-bytes", type=int, default=256 * 2**20, metavar="N", help=size)
    add_old_name(parser, "--out", "--output")


def _names(text: str) -> list[str]:
    """Names, separated by commas."""
    return text.split(",")
