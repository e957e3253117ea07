"""The options of validate_video.py; the model's config.json says what they leave out."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.console import add_old_name, add_retired_option, positive_integer
from timm_video_psn.data import ANNOTATED, DATASETS, STREAMED
from timm_video_psn.data.clips.sampling import TEST_SAMPLINGS, sampling_name
from timm_video_psn.engine.model_source import WAYS
from timm_video_psn.engine.protocol import (
    FUSIONS,
    Protocol,
    check_distinct,
    complete,
    parse_protocol,
    parse_views,
)

_DESCRIPTION = """Test a trained model on a split of a data set, clips x crops.

  validate_video.py --model output/RUN/best --data-dir DIR
  validate_video.py --model output/RUN/best --data-dir DIR --protocol '8x1x1 segments' --protocol '8x10x3@256 dense'
  validate_video.py --ensemble a/scores.npz b/scores.npz
  validate_video.py --compare a/scores.npz b/scores.npz
"""
_ONE_PROTOCOL = ("views", "sampling", "num_frames", "fusion", "test_img_size", "test_short_side")

# What score files can be told; workers and device change no number.
_OF_SCORE_FILES = ("output", "debug", "workers", "device", "font")
_ALSO = {"ensemble": ("ensemble", "weights", "fusion"), "compare": ("compare",)}


def parse_validate_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: arguments; None for the arguments of the process.
    """
    parser = argparse.ArgumentParser(
        prog="validate_video.py", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_what(parser)
    _add_data(parser.add_argument_group("data"))
    _add_protocol(parser.add_argument_group("protocol"))
    _add_run(parser.add_argument_group("run"))
    add_old_name(parser, "--max-broken", "--max-unreadable")
    add_old_name(parser, "--traceback", "--debug")
    add_retired_option(parser, "--bootstrap", "Wilson's intervals need no resampling")
    add_retired_option(parser, "--seed", "Wilson's intervals need no resampling")
    options = parser.parse_args(argv)
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


def protocols_of(options: argparse.Namespace, default: Protocol) -> list[Protocol]:
    """The protocols asked for, or the model's own.

    Args:
        options: options of validate_video.py.
        default: protocol of the model.

    Raises:
        ValueError: a protocol is impossible, or asked for twice.
    """
    if options.protocol:
        protocols = [parse_protocol(text, default) for text in options.protocol]
        check_distinct(protocols)
        return protocols
    clips, crops = parse_views(options.views) if options.views else (None, None)
    return [
        complete(
            default,
            num_frames=options.num_frames,
            num_clips=clips,
            num_crops=crops,
            img_size=options.test_img_size,
            short_side=options.test_short_side,
            sampling=options.sampling,
            fusion=options.fusion,
        )
    ]


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="FOLDER", help=f"{WAYS}; or a model name, with --checkpoint")
    add(
        "--checkpoint",
        metavar="FILE",
        help="last.pt of a run (needs no --model), or a file of weights for the named model",
    )
    add("--ensemble", nargs="+", metavar="NPZ", help="score files to average")
    add("--weights", nargs="+", type=float, metavar="W", help="weights of the files of --ensemble (default: equal)")
    add("--compare", nargs=2, metavar=("NPZ", "NPZ"), help="two score files of the same videos to compare")


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    known = ", ".join(sorted({*DATASETS, *ANNOTATED, *STREAMED}))
    add("--dataset", metavar="NAME", help=f"{known} (default: the data set that the model was trained on)")
    add("--data-dir", metavar="DIR", help="folder of the data set; of shards also a URL")
    add("--split", choices=["val", "test", "train"], default="val", help="split of the data set (default: %(default)s)")
    add("--list", metavar="FILE", help="annotations of the split, if they lie elsewhere")
    add(
        "--decoder",
        choices=["auto", "pyav", "torchcodec"],
        default="auto",
        help="decoder of video files; auto is pyav (default: auto)",
    )
    add(
        "--workers",
        "-j",
        type=int,
        default=min(4, os.cpu_count() or 1),
        help="processes that decode; 0: the main process (default: %(default)s)",
    )
    unreadable = "share of unreadable videos that ends the test (default: %(default)s)"
    add("--max-unreadable", type=float, default=0.1, metavar="SHARE", help=unreadable)


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    several = "[FRAMESx]CLIPSxCROPS[@PX[/SHORT]] [sampling] [fusion]; repeat it to test several protocols in one decode"
    add("--protocol", action="append", metavar="TEXT", help=several)
    add("--views", metavar="CLIPSxCROPS", help="1x1, 2x3, 10x3, ...; 1 crop is the centre, 3 lie along the long side")
    frames = "choice of the frames; tsn is segments; twice has 2 clips, dense 10 unless --views says more"
    add("--sampling", type=sampling_name, choices=list(TEST_SAMPLINGS), help=frames)
    add("--num-frames", type=positive_integer, metavar="T", help="frames of a clip (default: the model's)")
    add("--fusion", choices=FUSIONS, help="what is averaged over the views (default: logits)")
    add("--test-img-size", type=positive_integer, metavar="PX", help="side of the crops (default: the model's)")
    short = "short side of the frames that the crops are cut from (default: the model's, or the crop if it is larger)"
    add("--test-short-side", type=positive_integer, metavar="PX", help=short)


def _add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    at_once = "views per batch (default: 16, halved if the GPU runs out of memory)"
    add("--views-per-step", type=positive_integer, metavar="N", help=at_once)
    add("--device", default="auto", help="cuda, cpu, ...; auto is the GPU if there is one (default: auto)")
    add("--amp", action="store_true", help="use mixed precision (autocast)")
    add(
        "--amp-dtype",
        choices=["float16", "bfloat16"],
        default="float16",
        help="data type of autocast (default: %(default)s)",
    )
    results = "folder of the results (default: validate-<dataset>-<split> beside the model; none for score files)"
    add("--output", metavar="DIR", help=results)
    font = "font file for scripts that the default font lacks (default: an installed one is looked for)"
    add("--font", type=Path, metavar="FILE", help=font)
    add("--debug", action="store_true", help="show the traceback of an error")
