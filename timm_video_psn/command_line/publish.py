"""The command line of publishing."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import add_flags
from timm_video_psn.command_line.parser import Parser

_EXAMPLES = (
    ("output/RUN --repo-id USER/NAME --dry-run folder", "builds and checks the folder, sends nothing"),
    ("output/RUN --repo-id USER/NAME --license apache-2.0", "uploads it in one commit and compares what comes back"),
    (
        "output/RUN --repo-id USER/NAME --results output/RUN/validate-*/results.json",
        "the card states the accuracies of these validations",
    ),
)


def parse_publish_options(argv: Sequence[str] | None = None, prog: str = "publish.py") -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    parser = Parser(prog, "Publish a trained model on the Hugging Face Hub.", _EXAMPLES)
    add = parser.add_argument
    folder = "Folder of a run, or a folder with model.safetensors and config.json"
    add("model", type=Path, metavar="FOLDER", help=folder)
    add("--repo-id", required=True, metavar="USER/NAME", help="Repository on the Hub; created if it does not exist")
    add("--dry-run", type=Path, metavar="DIR", help="Build and check the folder in DIR, and send nothing")
    licence = "Licence of the weights, for example apache-2.0; without it the card states none"
    add("--license", metavar="ID", help=licence)
    add("--results", type=Path, nargs="*", default=[], metavar="FILE", help="results.json of validations for the card")
    add("--private", action="store_true", help="Create a private repository")
    add("--revision", default="main", metavar="BRANCH", help="Branch; created if it does not exist (default: main)")
    add("--tag", metavar="NAME", help="Name for the commit")
    token = "Token of the Hub; `hf auth login` or HF_TOKEN in the environment are better, since others cannot see them"
    add("--token", help=token)
    manifest = "Write where the weights are into a manifest of published weights (default: the package's own)"
    add("--register", type=Path, nargs="?", const=True, metavar="FILE", help=manifest)
    add_flags(parser, "debug")
    return parser.parse_args(argv)
