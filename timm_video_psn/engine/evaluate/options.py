"""The options of validate_video.py; what is left out is as the model's config.json says."""

import argparse
import os
from collections.abc import Sequence

from timm_video_psn.console import add_old_name, positive_integer
from timm_video_psn.data import ANNOTATED, DATASETS, STREAMED
from timm_video_psn.data.clips.sampling import TEST_SAMPLINGS, sampling_name
from timm_video_psn.engine.evaluate.accuracy import RESAMPLES
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
_OF_SCORE_FILES = ("bootstrap", "seed", "output", "traceback", "workers", "device")
_ALSO = {"ensemble": ("ensemble", "weights", "fusion"), "compare": ("compare",)}


def parse_validate_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: arguments; None for those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="validate_video.py", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_what(parser)
    _add_data(parser.add_argument_group("data"))
    _add_protocol(parser.add_argument_group("protocol"))
    _add_run(parser.add_argument_group("run"))
    add_old_name(parser, "--max-broken", "--max-unreadable")
    options = parser.parse_args(argv)
    asked = [name for name in ("ensemble", "compare") if getattr(options, name)]
    if len(asked) + bool(options.model or options.checkpoint) != 1:
        parser.error("give one of --model (or --checkpoint), --ensemble and --compare")
    if options.weights and not options.ensemble:
        parser.error("--weights are those of --ensemble; leave them out")
    if asked and (useless := _given(parser, options) - {*_OF_SCORE_FILES, *_ALSO[asked[0]]}):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(useless))
        parser.error(f"--{asked[0]} reads score files, which {given} cannot change; leave it out")
    if options.protocol and (both := [f"--{n.replace('_', '-')}" for n in _ONE_PROTOCOL if getattr(options, n)]):
        parser.error(f"--protocol says it all; leave {', '.join(both)} out, or say it there")
    if options.bootstrap < 100:
        parser.error(f"--bootstrap {options.bootstrap} resamples tell no interval; use 100 or more")
    return options


def _given(parser: argparse.ArgumentParser, options: argparse.Namespace) -> set[str]:
    """Names of the options that are not as they would be if left out."""
    return {name for name, value in vars(options).items() if value != parser.get_default(name)}


def protocols_of(options: argparse.Namespace, default: Protocol) -> list[Protocol]:
    """The protocols asked for, or the model's own.

    Args:
        options: of validate_video.py.
        default: of the model.

    Raises:
        ValueError: one cannot be, or is asked for twice.
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
    add("--model", metavar="FOLDER", help="best/ of a run, local-dir:FOLDER, hf-hub:user/name; or a name, with:")
    add("--checkpoint", metavar="FILE", help="last.pt of a run (needs no --model), or weights for the named model")
    add("--ensemble", nargs="+", metavar="NPZ", help="score files to join")
    add("--weights", nargs="+", type=float, metavar="W", help="of --ensemble; default: equal")
    add("--compare", nargs=2, metavar=("NPZ", "NPZ"), help="two score files of the same videos")


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    known = ", ".join(sorted({*DATASETS, *ANNOTATED, *STREAMED}))
    add("--dataset", metavar="NAME", help=f"default: the one that the model was trained on; {known}")
    add("--data-dir", metavar="DIR", help="folder of the data set; shards: or its URL")
    add("--split", choices=["val", "test", "train"], default="val", help="default: %(default)s")
    add("--list", metavar="FILE", help="annotations of the split that lie elsewhere than the reader looks")
    add("--decoder", choices=["auto", "pyav", "torchcodec"], default="auto", help="of video files; auto is pyav")
    add("--workers", "-j", type=int, default=min(4, os.cpu_count() or 1), help="processes that decode; 0: this one")
    unreadable = "share of unreadable videos that ends the test (default: %(default)s)"
    add("--max-unreadable", type=float, default=0.1, metavar="SHARE", help=unreadable)


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    several = "[FRAMESx]CLIPSxCROPS[@PX[/SHORT]] [sampling] [fusion]; once for each of several, which share one decode"
    add("--protocol", action="append", metavar="TEXT", help=several)
    add("--views", metavar="CLIPSxCROPS", help="1x1, 2x3, 10x3, ...; crops are 1, the centre, or 3")
    frames = "frames of the clips; tsn is segments; twice has 2 clips, dense usually 10"
    add("--sampling", type=sampling_name, choices=list(TEST_SAMPLINGS), help=frames)
    add("--num-frames", type=positive_integer, metavar="T", help="frames of a clip")
    add("--fusion", choices=FUSIONS, help="mean of the views' logits or probabilities")
    add("--test-img-size", type=positive_integer, metavar="PX", help="side of the crops")
    short = "the frames' short side, which the crops are cut from; default: the model's, or the crop if that is larger"
    add("--test-short-side", type=positive_integer, metavar="PX", help=short)


def _add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    at_once = "views that the model sees at once; default: 16, and fewer if the GPU's memory is too small"
    add("--views-per-step", type=positive_integer, metavar="N", help=at_once)
    add("--device", help="cuda, cpu, ...; default: cuda where there is one")
    add("--amp", action="store_true", help="autocast")
    add("--amp-dtype", choices=["float16", "bfloat16"], default="float16", help="numbers of autocast")
    add(
        "--bootstrap",
        type=int,
        default=RESAMPLES,
        metavar="N",
        help="resamples of the intervals (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of the intervals")
    results = "folder of the results; default: validate-<dataset>-<split> beside the model; none for score files"
    add("--output", metavar="DIR", help=results)
    add("--traceback", action="store_true", help="show where an error came from")
