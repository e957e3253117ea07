"""The parser of every command: help that opens with examples, short errors, the nearest names for wrong words."""

import argparse
import difflib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

# What other programs call our options.
_ELSEWHERE = {
    "learning-rate": "lr",
    "lr0": "lr",
    "base-lr": "lr-base",
    "wd": "weight-decay",
    "imgsz": "img-size",
    "image-size": "img-size",
    "resolution": "img-size",
    "num-workers": "workers",
    "num-epochs": "epochs",
    "num-train-epochs": "epochs",
    "per-device-train-batch-size": "batch-size",
    "bs": "batch-size",
    "arch": "model",
    "backbone": "model-kwargs",
    "optimizer": "opt",
    "optim": "opt",
    "scheduler": "sched",
    "dropout": "drop",
    "label-smoothing": "smoothing",
    "output-dir": "output",
    "out-dir": "output",
    "project": "output",
    "run-name": "experiment",
    "exp-name": "experiment",
    "data-path": "data-dir",
    "data-root": "data-dir",
    "root": "data-dir",
    "train-dir": "data-dir",
    "gpu": "device",
    "weights": "initial-checkpoint",
    "fp16": "amp",
    "bf16": "amp",
    "compile": "torchcompile",
    "frames": "num-frames",
    "clip-len": "num-frames",
    "top-k": "topk",
    "verbose": "debug",
}


class Parser(argparse.ArgumentParser):
    """Parses a command line; help shows what people use first, `--help-all` everything.

    Args:
        prog: Command as the user has typed it; usage and errors begin with it.
        about: What the command does, in a sentence.
        examples: Pairs of the words that follow the command, and what they do.
        first: Names of the options that `--help` shows, in this order; empty for all.
        **kwargs: Further arguments of `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        prog: str,
        about: str = "",
        examples: Iterable[tuple[str, str]] = (),
        first: Sequence[str] = (),
        **kwargs: Any,
    ):
        super().__init__(prog, description=about, add_help=False, formatter_class=_Formatter, **kwargs)
        self.examples, self.first = tuple(examples), tuple(first)
        self._positionals.title = "arguments"
        self.add_argument("--help", "-h", action="help", help="Show this help")
        self.add_argument("--help-all", action=_HelpAll)

    def format_usage(self) -> str:
        """One line: what has to be given."""
        formatter = argparse.HelpFormatter(self.prog, width=1000)
        formatter.add_usage(None, [action for action in self._actions if action.required], [])
        return f"{formatter.format_help().strip()} [options]\n"

    def format_help(self, whole: bool = False) -> str:
        """Usage, examples and options.

        Args:
            whole: Show every option, in groups, instead of those that people use first.
        """
        formatter: Any = self._get_formatter()
        text = [self.format_usage(), self.description or ""]
        if self.examples:
            shown = [f"  # {what}\n  {self.prog} {words}" for words, what in self.examples]
            text.append("\n".join(["examples:", *shown]))
        by_name = {action.dest: action for action in self._actions}
        sections: list[tuple[str | None, Iterable[argparse.Action]]]
        if self.first and not whole:
            needed = [action for action in self._positionals._group_actions if action.dest not in self.first]
            sections = [("options", [*needed, *(by_name[name] for name in self.first)])]
        else:
            sections = [(group.title, group._group_actions) for group in self._action_groups]
        for title, actions in sections:
            formatter.start_section(title)
            formatter.add_arguments([action for action in actions if action.dest not in ("help", "help_all")])
            formatter.end_section()
        text.append(formatter.format_help().rstrip())
        if self.first and not whole:
            count = sum(action.help != argparse.SUPPRESS for action in self._actions) - 2
            text.append(f"--help-all shows all {count} options.")
        return "\n\n".join(part.rstrip("\n") for part in text if part) + "\n"

    def error(self, message: str) -> NoReturn:
        """Ends the process: a line of usage, a line that says what is wrong.

        Args:
            message: What is wrong, and what to do.
        """
        self.exit(2, f"{self.format_usage()}{self.prog}: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parses; a word that means nothing is an error, at once and with the nearest option.

        Args:
            args: Words; None takes the arguments of the process.
            namespace: Values so far.
        """
        if self._subparsers is None and args is not None:
            self._check_options(args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return found, []

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the words of a command.

        Args:
            args: Words; None takes the arguments of the process.
            namespace: Values so far.
        """
        return self.parse_known_args(sys.argv[1:] if args is None else list(args), namespace)[0]

    def _check_options(self, words: Sequence[str]) -> None:
        """Refuses an unknown option before its value is taken for something else."""
        known = self._option_string_actions
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                self.error(self._unknown(name))

    def _unknown(self, word: str) -> str:
        """What to say of a word that means nothing here."""
        if not word.startswith("-"):
            return f"{word!r} does not belong to an option; {self.prog} --help lists the options"
        options = [name for name, action in self._option_string_actions.items() if action.help != argparse.SUPPRESS]
        name = word.lstrip("-").replace("_", "-").lower()
        near = [f"--{_ELSEWHERE[name]}"] if f"--{_ELSEWHERE.get(name)}" in options else []
        near += difflib.get_close_matches(f"--{name}", options, n=3, cutoff=0.7)
        lists = f"{self.prog} {'--help-all' if self.first else '--help'} lists the options"
        return f"there is no option {word}; {f'did you mean {near[0]}?' if near else lists}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuses what is not among the choices, with the nearest of them."""
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        near = difflib.get_close_matches(str(value), choices, n=1)
        tip = f"; did you mean {near[0]}?" if near else ""
        raise argparse.ArgumentError(action, f"{str(value)!r} is not one of {', '.join(choices)}{tip}")


class _HelpAll(argparse.Action):
    """Prints the help with every option."""

    def __init__(self, option_strings: list[str], dest: str, **kwargs: Any):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="Show every option")

    def __call__(self, parser: Any, *parsed: Any) -> None:
        parser._print_message(parser.format_help(whole=True), sys.stdout)
        parser.exit()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows `--[no-]amp` in the place of two options, and a metavar once."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30)

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Wraps a help text, and leaves words as `hf-hub:user/name` whole."""
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = action.option_strings
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{names[0].removeprefix('--')}"
        metavar = self._get_default_metavar_for_optional(action)
        return f"{', '.join(names)} {'' if action.nargs == 0 else self._format_args(action, metavar)}".rstrip()
