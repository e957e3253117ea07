"""The command: `timm-video-psn train | validate | predict | ...`, or `python -m timm_video_psn ...`."""

import sys
from collections.abc import Sequence

from timm_video_psn.console import launched_processes, run_command

_USAGE = """usage: timm-video-psn COMMAND [options]

commands:
  train      train a video classifier on a timm backbone
  validate   test a trained model, compare or join score files
  predict    label videos, folders, a camera or a stream
  prepare    check, resize, extract, pack or look at a data set
  insights   look into a trained model
  export     write a trained model as a file for ONNX Runtime, ExecuTorch or torch
  publish    publish a trained model on the Hugging Face Hub
  convert    bring weights of TSM, GST, TEA, TAM, torchvision or timm into the form of a model folder

timm-video-psn COMMAND --help lists the options of a command.
"""


def train(argv: Sequence[str] | None = None) -> int:
    """Trains a model; the work of train_video.py.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, 2 for an error, 128 + n when signal n stopped the run.
    """
    from timm_video_psn.engine.train.command_line import parse_options

    asked = parse_options(argv)

    def run() -> None:
        from torch.distributed.elastic.multiprocessing.errors import record

        from timm_video_psn.engine.train.trainer import train

        # torchrun's summary then names the process that failed first, with its error
        (record(train) if launched_processes() > 1 else train)(asked)

    return run_command("train_video.py", run, asked.debug)


def validate(argv: Sequence[str] | None = None) -> int:
    """Tests a model, or works on score files; the work of validate_video.py.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    from timm_video_psn.engine.evaluate.options import parse_validate_options

    options = parse_validate_options(argv)

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

    return run_command("validate_video.py", run, options.debug)


def predict(argv: Sequence[str] | None = None) -> int:
    """Labels videos; the work of predict_video.py.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, 1 where some of several inputs could not be read, or 2 for an error.
    """
    from timm_video_psn.engine.predict.command import parse_predict_options, predict

    options = parse_predict_options(argv)
    return run_command("predict_video.py", lambda: predict(options), options.debug)


def prepare(argv: Sequence[str] | None = None) -> int:
    """Checks, resizes, extracts, packs or draws a data set; see `data.tools.prepare`."""
    from timm_video_psn.data.tools.prepare import main

    return main(argv)


def insights(argv: Sequence[str] | None = None) -> int:
    """Looks into a trained model; see `insights.command_line`."""
    from timm_video_psn.insights.command_line import main

    return main(argv)


def export(argv: Sequence[str] | None = None) -> int:
    """Writes a trained model as a file for another runtime.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    from timm_video_psn.engine.export import parse_export_options, run_export

    options = parse_export_options(argv)
    return run_command("export", lambda: run_export(options), options.debug)


def publish(argv: Sequence[str] | None = None) -> int:
    """Publishes a trained model on the Hugging Face Hub; the work of hub/publish.py.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, 2 for an error, 130 when it was interrupted.
    """
    from timm_video_psn.publish.command import parse_publish_options, publish

    options = parse_publish_options(argv)
    return run_command("publish.py", lambda: publish(options))


def convert(argv: Sequence[str] | None = None) -> int:
    """Brings weights of others into the form of a model folder; the work of hub/convert.py.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    from timm_video_psn.publish.convert import convert, parse_convert_options

    options = parse_convert_options(argv)
    return run_command("convert.py", lambda: convert(options), options.debug)


_COMMANDS = {
    function.__name__: function for function in (train, validate, predict, prepare, insights, export, publish, convert)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: name and arguments of the command; None for the arguments of the process.

    Returns:
        The command's exit code; 2 where there is no such command.
    """
    name, *rest = (list(sys.argv[1:] if argv is None else argv)) or [""]
    if name in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if name not in _COMMANDS:
        print(
            f"{_USAGE}\ntimm-video-psn: error: {name!r} is no command; use one of {', '.join(_COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    return _COMMANDS[name](rest)


if __name__ == "__main__":
    sys.exit(main())
