"""What a command prints, and how it ends: reports, warnings, and errors in one line that say what to do."""

import argparse
import logging
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

MODEL_SOURCES = "the folder of a run, its best/, hf-hub:user/name, torchvision:NAME or transformers:REPO"
_LINE_SEC = 30.0  # between two lines of progress where there is no terminal
_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}"
_LOGGER = logging.getLogger(__name__)
_HANDLER = "timm_video_psn command line"
_USER_ERRORS = (ValueError, TypeError, OSError, FloatingPointError, ImportError)  # the last: an extra is missing


class CommandEnded(Exception):
    """A command ends before its work is done, and nothing is wrong with it: somebody has stopped it.

    Args:
        message: A line for the standard error; empty where another process has said why.
        exit_code: Exit code of the command.
    """

    def __init__(self, message: str = "", exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


def command_name(name: str) -> str:
    """How the user, who has started this process, would start a command of this package.

    Args:
        name: Name of the command, as `validate`.
    """
    program = Path(sys.argv[0] if sys.argv else "")
    if program.name == "__main__.py":
        return f"python -m timm_video_psn {name}"
    if program.name.endswith("_video.py"):
        return f"python {program.with_name(f'{name}_video.py')}"
    return f"timm-video-psn {name}"


def launched_rank() -> int:
    """The number of this process among those that torchrun has started, 0 without torchrun."""
    return int(os.environ["RANK"]) if "WORLD_SIZE" in os.environ and "RANK" in os.environ else 0


def launched_processes() -> int:
    """How many processes torchrun has started on all nodes, 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "WORLD_SIZE" in os.environ and "RANK" in os.environ else 1


def run_command(name: str, run: Callable[[], int | None], debug: bool = False) -> int:
    """Runs a command; an error that its user can fix becomes a line on the standard error and an exit code.

    Args:
        name: Name of the command, with which errors begin.
        run: The work; it returns an exit code, or None for 0.
        debug: Let errors through, with their traceback.

    Returns:
        The exit code: what `run` returned, 2 for an error, 130 after Ctrl-C, or the code of a `CommandEnded`.
    """
    if launched_processes() > 1:
        name = f"{name}: rank {launched_rank()} of {launched_processes()}"
    _configure_logging(name)
    try:
        return run() or 0
    except CommandEnded as ended:
        if str(ended):
            print(f"{name}: {ended}", file=sys.stderr)
        return ended.exit_code
    except _USER_ERRORS as error:
        if debug:
            raise
        print(f"{name}: error: {_without_controls(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


class Progress:
    """Iterates over batches and shows how far it is: a bar on a terminal, else a line now and then.

    Args:
        batches: Batches to iterate over.
        title: What is going on, as `epoch 1/80`.
        total: Number of batches, with those before the first one.
        first: Batches that are done already.
        interval: Batches between two lines; 0 for a line every 30 s.
        describe: Function from the number of batches done to what else there is to say; None for the time left.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        title: str,
        total: int,
        first: int = 0,
        interval: int = 0,
        describe: Callable[[int], str] | None = None,
    ):
        self.title, self.total, self.first, self.interval, self.describe = title, total, first, interval, describe
        from tqdm import tqdm  # not at the top: --help need not wait for it

        hidden = launched_rank() != 0 or not sys.stderr.isatty()
        form = _BAR + (", {remaining} left" if describe is None else "{postfix}")
        self._bar: Any = tqdm(batches, title, total, False, initial=first, disable=hidden, bar_format=form)
        self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __iter__(self) -> Iterator[Any]:
        for done, batch in enumerate(self._bar, self.first + 1):
            yield batch
            if not self._bar.disable:
                self._bar.set_postfix_str(self._more(done), refresh=False)
            elif self._is_due(done):
                self._said = time.monotonic()
                _LOGGER.info(f"{self.title}  batch {done} of {self.total}  {self._more(done)}".rstrip())

    def _more(self, done: int) -> str:
        return "" if self.describe is None else self.describe(done)

    def _is_due(self, done: int) -> bool:
        """Whether it is time for a line; the end of an epoch has one anyway."""
        if done == self.total:
            return False
        return done % self.interval == 0 if self.interval else time.monotonic() - self._said >= _LINE_SEC


def printable(text: str) -> str:
    """Returns text in which nothing moves the cursor, changes colours, hides or forges a line: controls are escaped.

    Class names, paths and messages of libraries come from strangers' files.

    Args:
        text: Text for one line.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    """The character, or its escape; spaces of all scripts and joiners, which some need, stay."""
    if character.isprintable() or character in "\u200c\u200d" or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def add_old_name(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Lets users give an option by its former name, with a warning, until the next release.

    Args:
        parser: Parser that has the option.
        old: Former name, as `--max-broken`.
        new: Present name, as `--max-unreadable`.
    """
    parser.add_argument(old, action=_OldName, renamed=parser._option_string_actions[new])


def add_retired_option(parser: argparse.ArgumentParser, name: str, reason: str) -> None:
    """Lets users give an option that does nothing any more, with a warning, until the next release.

    Args:
        parser: Parser that had the option.
        name: Name of the option, which takes one value.
        reason: Why it is gone, as a clause.
    """
    parser.add_argument(name, action=_Retired, reason=reason)


class _Retired(argparse.Action):
    """Takes a value, and says that nothing is done with it."""

    def __init__(self, option_strings: list[str], dest: str, reason: str):
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self.reason = reason

    def __call__(self, parser: argparse.ArgumentParser, *parsed: Any) -> None:
        print(f"{parser.prog}: warning: {parsed[-1]} does nothing any more: {self.reason}", file=sys.stderr)


class _OldName(argparse.Action):
    """Does what the option of the present name does, and says that name."""

    def __init__(self, option_strings: list[str], dest: str, renamed: argparse.Action):
        super().__init__(
            option_strings,
            dest,
            nargs=renamed.nargs,
            default=argparse.SUPPRESS,
            type=renamed.type,  # type: ignore[arg-type]  # a name of a registered type, which nobody uses
            choices=renamed.choices,
            help=argparse.SUPPRESS,
        )
        self.renamed = renamed

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        new = self.renamed.option_strings[0]
        print(f"{parser.prog}: warning: {option_string} is now {new}; use that name", file=sys.stderr)
        self.renamed.required = False  # it has been given
        self.renamed(parser, namespace, values, new)


def _without_controls(text: str) -> str:
    """The lines of a message, each printable."""
    return "\n".join(map(printable, text.split("\n")))


def positive_integer(text: str) -> int:
    """Reads a whole number from 1 on, as the type of an option; an error shows the name of this function."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _configure_logging(name: str) -> None:
    """Our own reports go to the standard output as they are; warnings, and other packages', to the standard error.

    Of several processes, only the first reports; all of them warn.
    """
    reports = _Reports(sys.stdout)
    reports.setFormatter(_Formatter("%(message)s"))
    reports.addFilter(lambda record: record.levelno < logging.WARNING)
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(_Formatter(f"{name}: %(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if handler.get_name() != _HANDLER]  # an earlier call's
    for handler in (reports, warnings):
        handler.set_name(_HANDLER)
    ours = logging.getLogger("timm_video_psn")
    ours.handlers = [reports]
    ours.setLevel(logging.INFO if launched_rank() == 0 else logging.WARNING)
    root.addHandler(warnings)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own, and would warn twice


class _Formatter(logging.Formatter):
    """Leaves no control character but the ends of lines in a message."""

    def format(self, record: logging.LogRecord) -> str:
        return _without_controls(super().format(record))


class _Reports(logging.StreamHandler):
    """Goes quiet when nobody reads any more, as behind `| head`; the work goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
