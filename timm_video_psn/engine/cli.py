"""What the scripts at the top of the repository run: options in, exit code out, errors in one line."""

import logging
import os
import sys
from collections.abc import Callable, Sequence

_HANDLER = "timm_video_psn command line"
_USER_ERRORS = (ValueError, TypeError, OSError, FloatingPointError, ImportError)  # the last: an extra is missing


def train_main(argv: Sequence[str] | None = None) -> int:
    """Run train_video.py.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, 2 for an error, 128 + n when signal n stopped the run.
    """
    from timm_video_psn.engine.distributed import launched_rank
    from timm_video_psn.engine.signals import Interrupted
    from timm_video_psn.engine.train.options import parse_options
    from timm_video_psn.engine.train.trainer import train

    options = parse_options(argv)

    def run() -> None:
        try:
            train(options)
        except Interrupted as stop:
            if launched_rank() == 0:
                print(stop, file=sys.stderr)
            raise SystemExit(stop.exit_code) from None

    return _guarded("train_video.py", run, options.traceback)


def validate_main(argv: Sequence[str] | None = None) -> int:
    """Run validate_video.py.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    from timm_video_psn.engine.evaluate.options import parse_validate_options

    options = parse_validate_options(argv)

    def run() -> None:
        from timm_video_psn.engine.evaluate.score_files import run_comparison, run_ensemble
        from timm_video_psn.engine.evaluate.validate import validate

        if options.ensemble:
            run_ensemble(options)
        elif options.compare:
            run_comparison(options)
        else:
            validate(options)

    return _guarded("validate_video.py", run, options.traceback)


def predict_main(argv: Sequence[str] | None = None) -> int:
    """Run predict_video.py.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, 1 where some of several inputs could not be read, or 2 for an error.
    """
    from timm_video_psn.engine.predict.command import parse_predict_options, predict

    options = parse_predict_options(argv)
    return _guarded("predict_video.py", lambda: predict(options), options.traceback)


def _program(name: str) -> str:
    """The name that errors begin with: with the number of the process, where torchrun has started several."""
    from timm_video_psn.engine.distributed import launched_processes, launched_rank

    return name if launched_processes() == 1 else f"{name}: rank {launched_rank()} of {launched_processes()}"


def _configure_logging(name: str) -> None:
    """Our own reports go to the standard output as they are; warnings, and those of others, to the standard error.

    Of several processes, the first one alone reports; warnings come from all.
    """
    from timm_video_psn.engine.distributed import launched_rank

    reports = _Reports(sys.stdout)
    reports.addFilter(lambda record: record.levelno < logging.WARNING)
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(logging.Formatter(f"{name}: %(levelname)s: %(message)s"))
    logging.getLogger().handlers = [handler for handler in logging.getLogger().handlers if not _is_ours(handler)]
    for handler in (reports, warnings):
        handler.set_name(_HANDLER)
    ours = logging.getLogger("timm_video_psn")
    ours.handlers = [reports]
    ours.setLevel(logging.INFO if launched_rank() == 0 else logging.WARNING)
    logging.getLogger().addHandler(warnings)


class _Reports(logging.StreamHandler):
    """Goes quiet when nobody reads any more, as behind `| head`; what is being done goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)


def _is_ours(handler: logging.Handler) -> bool:
    """Whether an earlier call made the handler."""
    return handler.get_name() == _HANDLER


def _guarded(name: str, run: Callable[[], int | None], traceback: bool) -> int:
    """Run, and turn an error that the user can mend into a line and an exit code."""
    from timm_video_psn.engine.distributed import OtherProcessFailed

    name = _program(name)
    _configure_logging(name)
    try:
        return run() or 0
    except OtherProcessFailed as failure:
        if str(failure):
            print(f"{name}: error: {failure}", file=sys.stderr)
        return 1
    except _USER_ERRORS as error:
        if traceback:
            raise
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
