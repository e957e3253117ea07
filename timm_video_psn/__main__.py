"""The command: `timm-video-psn train | validate | predict | ...`, or `python -m timm_video_psn ...`."""

import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from timm_video_psn.console import launched_processes, run_command
from timm_video_psn.version import __version__

Words = Sequence[str] | None  # of a command line; None for the words of the process


def train(argv: Words = None, prog: str = "train_video.py") -> int:
    """Trains a model; the work of train_video.py.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it, as for all functions here.

    Returns:
        The exit code: 0, 2 for an error, 128 + n when signal n stopped the run.
    """
    from timm_video_psn.command_line.train import parse_options

    asked = parse_options(argv, prog)

    def run() -> None:
        from torch.distributed.elastic.multiprocessing.errors import record

        from timm_video_psn.engine.train.trainer import train

        # torchrun's summary then names the process that failed first, with its error
        (record(train) if launched_processes() > 1 else train)(asked)

    return run_command(prog, run, asked.debug)


def validate(argv: Words = None, prog: str = "validate_video.py") -> int:
    """Tests a model, or works on score files; the work of validate_video.py."""
    from timm_video_psn.command_line.validate import parse_validate_options

    options = parse_validate_options(argv, prog)

    def run() -> None:
        from timm_video_psn.engine.evaluate.score_files import run_comparison, run_ensemble
        from timm_video_psn.engine.evaluate.validate import validate
        from timm_video_psn.plotting import add_font

        if options.font:
            add_font(options.font)
        if options.ensemble:
            run_ensemble(options)
        elif options.compare:
            run_comparison(options)
        else:
            validate(options)

    return run_command(prog, run, options.debug)


def predict(argv: Words = None, prog: str = "predict_video.py") -> int:
    """Labels videos; the work of predict_video.py. The exit code is 1 where some of several inputs were unreadable."""
    from timm_video_psn.command_line.predict import parse_predict_options

    options = parse_predict_options(argv, prog)

    def run() -> int:
        from timm_video_psn.engine.predict.command import predict

        return predict(options, prog)

    return run_command(prog, run, options.debug)


def prepare(argv: Words = None, prog: str = "timm-video-psn prepare") -> int:
    """Checks, resizes, extracts, packs or draws a data set."""
    from timm_video_psn.command_line.prepare import parse_prepare_options

    options = parse_prepare_options(argv, prog)

    def run() -> int:
        from timm_video_psn.data.tools.prepare import run_prepare

        return run_prepare(options)

    return run_command(f"{prog} {options.command}", run, options.debug)


def insights(argv: Words = None, prog: str = "timm-video-psn insights") -> int:
    """Looks into a trained model. The exit code is 1 where sections of a report failed."""
    from timm_video_psn.command_line.insights import parse_insights_options

    options = parse_insights_options(argv, prog)

    def run() -> int:
        from timm_video_psn.insights.command import run_insights

        return run_insights(options, prog)

    return run_command(prog, run, options.debug)


def export(argv: Words = None, prog: str = "timm-video-psn export") -> int:
    """Writes a trained model as a file for another runtime."""
    from timm_video_psn.command_line.export import parse_export_options

    options = parse_export_options(argv, prog)

    def run() -> None:
        from timm_video_psn.engine.export import run_export

        run_export(options)

    return run_command(prog, run, options.debug)


def benchmark(argv: Words = None, prog: str = "timm-video-psn benchmark") -> int:
    """Measures models side by side."""
    from timm_video_psn.command_line.benchmark import parse_benchmark_options

    options = parse_benchmark_options(argv, prog)

    def run() -> None:
        from timm_video_psn.engine.benchmark.command import run_benchmark

        run_benchmark(options)

    return run_command(prog, run, options.debug)


def publish(argv: Words = None, prog: str = "publish.py") -> int:
    """Publishes a trained model on the Hugging Face Hub; the work of hub/publish.py."""
    from timm_video_psn.command_line.publish import parse_publish_options

    options = parse_publish_options(argv, prog)

    def run() -> None:
        from timm_video_psn.publish.command import publish

        publish(options)

    return run_command(prog, run, options.debug)


def convert(argv: Words = None, prog: str = "convert.py") -> int:
    """Brings weights of others into the form of a model folder; the work of hub/convert.py."""
    from timm_video_psn.command_line.convert import parse_convert_options

    options = parse_convert_options(argv, prog)

    def run() -> None:
        from timm_video_psn.publish.convert import convert

        convert(options)

    return run_command(prog, run, options.debug)


_COMMANDS: dict[Callable[..., int], str] = {
    train: "train a video classifier on a timm backbone",
    validate: "test a trained model, compare or join score files",
    predict: "label videos, folders, a camera or a stream",
    prepare: "check, resize, extract, pack or look at a data set",
    insights: "look into a trained model",
    export: "write a trained model as a file for ONNX Runtime, ExecuTorch or torch",
    benchmark: "measure models side by side: speed, latency, memory",
    publish: "publish a trained model on the Hugging Face Hub",
    convert: "bring weights of TSM, GST, TEA, TAM, torchvision or timm into the form of a model folder",
}
_HELP = """usage: {prog} COMMAND [options]

examples:
  # train on your videos, in the folders videos/train/CLASS and videos/val/CLASS
  {prog} train --data-dir videos --pretrained
  # the accuracy of the best epoch
  {prog} validate --model output/psn_resnet50-folder --data-dir videos
  # the five most likely classes of a video
  {prog} predict clip.mp4 --model output/psn_resnet50-folder

commands:
{commands}

{prog} COMMAND --help lists the options of a command.
"""


def main(argv: Words = None) -> int:
    """Runs a command.

    Args:
        argv: Name and arguments of the command; None for the arguments of the process.

    Returns:
        The command's exit code; 2 where there is no such command.
    """
    prog = "python -m timm_video_psn" if Path(sys.argv[0]) == Path(__file__) else "timm-video-psn"
    commands = {command.__name__: command for command in _COMMANDS}
    name, *rest = (list(sys.argv[1:] if argv is None else argv)) or ["--help"]
    if name in ("-h", "--help"):
        lines = (f"  {command.__name__:10} {what}" for command, what in _COMMANDS.items())
        print(_HELP.format(prog=prog, commands="\n".join(lines)), end="")
        return 0
    if name == "--version":
        print(f"timm-video-psn {__version__}")
        return 0
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        tip = f"did you mean {near[0]}?" if near else f"use one of {', '.join(commands)}"
        print(f"usage: {prog} COMMAND [options]\n{prog}: error: {name!r} is not a command; {tip}", file=sys.stderr)
        return 2
    return commands[name](rest, f"{prog} {name}")


if __name__ == "__main__":
    sys.exit(main())
