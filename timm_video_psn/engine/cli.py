"""What the scripts at the top of the repository run: options in, exit code out, errors in one line."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_HANDLER = "timm_video_psn command line"
_USER_ERRORS = (ValueError, TypeError, OSError, FloatingPointError, ImportError)  # the last: an extra is missing


def train_main(argv: Sequence[str] | None = None) -> int:
    """Run train_video.py.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, 2 for an error, 128 + n when signal n stopped the run.
    """
    from timm_video_psn.engine.interrupt import Interrupted
    from timm_video_psn.engine.options import parse_options
    from timm_video_psn.engine.train import train

    options = parse_options(argv)

    def run() -> None:
        try:
            train(options)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            raise SystemExit(stop.exit_code) from None

    return _guarded("train_video.py", run, options.traceback)


def predict_main(argv: Sequence[str] | None = None) -> int:
    """Run predict_video.py.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    parser = argparse.ArgumentParser(prog="predict_video.py", description="Name what a video shows.")
    parser.add_argument("file", help="video file, or folder of frame images")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="best/ of a run, or hf-hub:user/name")
    parser.add_argument("--top", type=int, default=5, help="classes to show (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    options = parser.parse_args(argv)

    def run() -> None:
        from timm_video_psn.engine.predict import Predictor

        predictions = Predictor(options.model, options.device).predict(Path(options.file), options.top)
        if options.json:
            top = [{"label": item.label, "probability": item.probability} for item in predictions]
            print(json.dumps({"file": options.file, "model": options.model, "top": top}))
            return
        for item in predictions:
            print(f"{item.probability:7.2%}  {item.label}")

    return _guarded("predict_video.py", run, options.traceback)


def _configure_logging(name: str) -> None:
    """Our own reports go to the standard output as they are; warnings, and those of others, to the standard error."""
    reports = logging.StreamHandler(sys.stdout)
    reports.addFilter(lambda record: record.levelno < logging.WARNING)
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(logging.Formatter(f"{name}: %(levelname)s: %(message)s"))
    logging.getLogger().handlers = [handler for handler in logging.getLogger().handlers if not _is_ours(handler)]
    for handler in (reports, warnings):
        handler.set_name(_HANDLER)
    ours = logging.getLogger("timm_video_psn")
    ours.handlers = [reports]
    ours.setLevel(logging.INFO)
    logging.getLogger().addHandler(warnings)


def _is_ours(handler: logging.Handler) -> bool:
    """Whether an earlier call made the handler."""
    return handler.get_name() == _HANDLER


def _guarded(name: str, run: Callable[[], None], traceback: bool) -> int:
    """Run, and turn an error that the user can mend into a line and an exit code."""
    _configure_logging(name)
    try:
        run()
    except _USER_ERRORS as error:
        if traceback:
            raise
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 0
