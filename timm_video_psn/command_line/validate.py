"""The command line of validation; the model's config.json says what it leaves out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import add_flags, check_ranges
from timm_video_psn.command_line.names import TEST_SAMPLINGS, VIEW_FUSIONS
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.console import MODEL_SOURCES, add_old_name, add_retired_option, positive_integer
from timm_video_psn.engine.train.options import DATASETS, sampling_name

_FIRST = (
    *("model", "data_dir", "dataset", "split", "views", "protocol", "device", "amp", "output"),
    *("ensemble", "compare"),
)
_EXAMPLES = (
    ("--model output/RUN --data-dir videos", "accuracy of a run's best epoch, one view of each video"),
    (
        "--model output/RUN --data-dir videos --protocol '8x1x1 segments' --protocol '8x10x3@256 dense'",
        "two protocols, from one decode of each video",
    ),
    ("--compare a/scores.npz b/scores.npz", "two models on the same videos, with McNemar's test"),
)
_ONE_PROTOCOL = ("views", "sampling", "num_frames", "fusion", "test_img_size", "test_short_side")

# What score files can be told; workers and device change no number.
_OF_SCORE_FILES = ("output", "debug", "workers", "device", "font")
_ALSO = {"ensemble": ("ensemble", "weights", "fusion"), "compare": ("compare",)}


def parse_validate_options(argv: Sequence[str] | None = None, prog: str = "validate_video.py") -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    parser = Parser(prog, "Test a trained model on a split of a data set, clips x crops.", _EXAMPLES, _FIRST)
    _add_what(parser)
    _add_data(parser.add_argument_group("data"))
    _add_protocol(parser.add_argument_group("protocol"))
    _add_run(parser.add_argument_group("run"))
    add_old_name(parser, "--max-broken", "--max-unreadable")
    add_old_name(parser, "--traceback", "--debug")
    add_retired_option(parser, "--bootstrap", "Wilson's intervals need no resampling")
    add_retired_option(parser, "--seed", "Wilson's intervals need no resampling")
    options = parser.parse_args(argv)
    check_ranges(parser, options)
    asked = [name for name in ("ensemble", "compare") if getattr(options, name)]
    if len(asked) + bool(options.model or options.checkpoint) != 1:
        parser.error("give one of --model (or --checkpoint), --ensemble and --compare")
    if options.weights and not options.ensemble:
        parser.error("--weights belong to --ensemble; leave them out")
    if asked and (useless := _given(parser, options) - {*_OF_SCORE_FILES, *_ALSO[asked[0]]}):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(useless))
        parser.error(f"--{asked[0]} reads score files, which {given} cannot change; leave it out")
    if options.protocol and (both := [f"--{n.replace('_', '-')}" for n in _ONE_PROTOCOL if getattr(options, n)]):
        parser.error(f"--protocol says it all; leave {', '.join(both)} out, or say it there")
    return options


def _given(parser: argparse.ArgumentParser, options: argparse.Namespace) -> set[str]:
    """Names of the options that are not as they would be if left out."""
    return {name for name, value in vars(options).items() if value != parser.get_default(name)}


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="FOLDER", help=f"Trained model: {MODEL_SOURCES}; or a model name, with --checkpoint")
    weights = "last.pt of a run (needs no --model), or a file of weights for the named model"
    add("--checkpoint", metavar="FILE", help=weights)
    add("--ensemble", nargs="+", metavar="NPZ", help="Score files to average")
    add("--weights", nargs="+", type=float, metavar="W", help="Weights of the files of --ensemble (default: equal)")
    add("--compare", nargs=2, metavar=("NPZ", "NPZ"), help="Two score files of the same videos to compare")


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    known = f"Data set: {', '.join(DATASETS)} (default: the data set that the model was trained on)"
    add("--dataset", metavar="NAME", help=known)
    add("--data-dir", metavar="DIR", help="Folder of the data set (shards: also a URL); motion is generated if missing")
    add("--split", choices=["val", "test", "train"], default="val", help="Split of the data set (default: %(default)s)")
    add("--list", metavar="FILE", help="Annotations of the split, if they lie elsewhere")
    add_flags(group, "decoder", "max_pixels", "workers", "max_unreadable")


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    several = "[FRAMESx]CLIPSxCROPS[@PX[/SHORT]] [sampling] [fusion]; repeat it to test several protocols in one decode"
    add("--protocol", action="append", metavar="TEXT", help=several)
    views = "Clips and crops of a video: 1x1, 2x3, 10x3, ...; 1 crop is the centre, 3 lie along the long side"
    add("--views", metavar="CLIPSxCROPS", help=views)
    frames = "Choice of the frames; tsn is segments; twice has 2 clips, dense 10 unless --views says more"
    add("--sampling", type=sampling_name, choices=TEST_SAMPLINGS, help=frames)
    add("--num-frames", type=positive_integer, metavar="T", help="Frames of a clip (default: the model's)")
    add("--fusion", choices=VIEW_FUSIONS, help="What is averaged over the views (default: logits)")
    add("--test-img-size", type=positive_integer, metavar="PX", help="Side of the crops (default: the model's)")
    short = "Short side of the frames that the crops are cut from (default: the model's, or the crop if it is larger)"
    add("--test-short-side", type=positive_integer, metavar="PX", help=short)


def _add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    at_once = "Views per batch (default: 16, halved if the GPU runs out of memory)"
    add("--views-per-step", type=positive_integer, metavar="N", help=at_once)
    add_flags(group, "device", "amp", "amp_dtype")
    results = "Folder of the results (default: validate-<dataset>-<split> beside the model; none for score files)"
    add("--output", metavar="DIR", help=results)
    font = "Font file for scripts that the default font lacks (default: an installed one is looked for)"
    add("--font", type=Path, metavar="FILE", help=font)
    add_flags(group, "debug")
