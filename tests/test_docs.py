"""README and docs fit the tree: links lead somewhere, named files exist, commands have the options that they show."""

import io
import re
import shlex
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from timm_video_psn.__main__ import main

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "hub" / "README.md",
]
SCRIPTS = {"train_video.py": "train", "validate_video.py": "validate", "predict_video.py": "predict"}
WITH_SUBCOMMANDS = {"prepare", "insights"}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@each_page
def test_links_lead_to_a_file_and_a_heading(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        if not target.exists() or (heading and heading not in map(anchor, headings)):
            dead.append(link)
    assert dead == []


@each_page
def test_files_of_the_tree_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"`((?:timm_video_psn|benchmarks|tests|docs|hub)/[\w/.-]+|[\w/]+/\w+\.py)`", text)
    assert [name for name in names if not any((top / name).exists() for top in (ROOT, ROOT / "timm_video_psn"))] == []


def commands(text: str) -> list[list[str]]:
    """The calls of our command in code blocks and in code within lines, as argument lists."""
    text = text.replace("\\\n", " ")
    fence = r"```\w*\n(.*?)```"
    code = [*re.findall(fence, text, re.DOTALL), *re.findall(r"`([^`\n]+)`", re.sub(fence, "", text, flags=re.DOTALL))]
    found = []
    for line in (line for block in code for line in block.splitlines()):
        match = re.search(r"(?:timm-video-psn|(\w+_video\.py)) +(.*)", line.partition("  #")[0])
        if match and (match[1] or match[2].split()[0] in {*SCRIPTS.values(), *WITH_SUBCOMMANDS}):
            arguments = shlex.split(match[2])
            found.append([SCRIPTS[match[1]], *arguments] if match[1] else arguments)
    return found


@cache
def help_of(*command: str) -> str:
    """What --help-all of a command prints."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit, match="0"):
        main([*command, "--help-all"])
    return printed.getvalue()


@each_page
def test_commands_have_the_options_that_they_show(page):
    for arguments in commands(page.read_text(encoding="utf-8")):
        subcommand = arguments[0] in WITH_SUBCOMMANDS and "".join(arguments[1:2]).islower()
        command = arguments[: 2 if subcommand else 1]
        options = {argument.partition("=")[0] for argument in arguments if re.match(r"-{1,2}[a-z]", argument)}
        listed = re.sub(r"--\[no-\]([\w-]+)", r"--\1, --no-\1", help_of(*command))
        known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", listed))
        assert options - {"--help"} <= known, shlex.join(arguments)


def test_commands_are_found_in_blocks_and_in_lines():
    block = "```\ntorchrun --x train_video.py \\\n  --a 1  # --b\n```"
    assert commands(f"`timm-video-psn train --c` and\n{block}\n`train_video.py`") == [
        ["train", "--a", "1"],
        ["train", "--c"],
    ]
