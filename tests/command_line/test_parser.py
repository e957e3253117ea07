"""The help of every command: examples, ten options, no torch; and what a wrong word is told."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import timm_video_psn
from timm_video_psn.__main__ import main

ROOT = Path(__file__).parents[2]
COMMANDS = ("train", "validate", "predict", "prepare", "insights", "export", "benchmark", "publish", "convert")
SUBCOMMANDS = {
    "prepare": ("check", "resize", "frames", "show", "shards"),
    "insights": ("interactions", "shapes", "cam", "evolution", "embedding", "gains", "report"),
}
SCRIPTS = ("train_video.py", "validate_video.py", "predict_video.py", "hub/publish.py", "hub/convert.py")
ALL = [(name,) for name in COMMANDS] + [(name, sub) for name, subs in SUBCOMMANDS.items() for sub in subs]


def printed(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code in (0, 2)
    output = capsys.readouterr()
    return output.err if stop.value.code else output.out


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("usage: timm-video-psn COMMAND [options]\n\nexamples:\n")
    assert all(f"\n  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_help_opens_with_examples_that_the_command_understands(command, capsys):
    shown = printed(capsys, *command, "--help")
    assert shown.startswith(f"usage: timm-video-psn {' '.join(command)}")
    assert "(default: None)" not in shown
    assert "%(" not in shown
    examples = [line.split()[1:] for line in shown.splitlines() if line.startswith("  timm-video-psn ")]
    assert shown.index("\nexamples:\n") < shown.index("\n  -" if "\n  -" in shown else "\ncommands:")
    assert len(examples) >= (3 if len(command) == 1 else 1)
    known = printed(capsys, *command, "--help-all")
    for words in examples:
        assert words[: len(command)] == list(command)
        subcommand = len(command) == 1 and command[0] in SUBCOMMANDS
        whole = printed(capsys, *words[:2], "--help-all") if subcommand else known
        options = {word for word in words if word.startswith("--")}
        assert all(word in whole or word.replace("--", "--[no-]") in whole for word in options)


def test_help_shows_ten_options_and_help_all_shows_all(capsys):
    ten = printed(capsys, "train", "--help")
    assert sum(line.startswith("  --") for line in ten.splitlines()) == 10
    assert "--help-all shows all" in ten
    whole = printed(capsys, "train", "--help-all")
    assert "--warmup-epochs" in whole
    assert "--warmup-epochs" not in ten
    assert "--max-broken" not in whole


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("train --learning-rate 0.1", "there is no option --learning-rate; did you mean --lr?"),
        ("train --batch_size 8", "there is no option --batch_size; did you mean --batch-size?"),
        ("validate --vieuws 1x1", "there is no option --vieuws; did you mean --views?"),
        ("predict clip.mp4 --modle run", "there is no option --modle; did you mean --model?"),
        ("train --zzz", "there is no option --zzz; timm-video-psn train --help-all lists the options"),
        ("train motion", "'motion' does not belong to an option; timm-video-psn train --help lists the options"),
        ("train --sampling dens", "'dens' is not one of segments, tsm, dense, uniform; did you mean dense?"),
        ("prepare chek", "'chek' is not one of check, resize, frames, show, shards; did you mean check?"),
        ("insights cam run clip.mp4 --lable waving", "there is no option --lable; did you mean --label?"),
        ("export run --formt onnx", "there is no option --formt; did you mean --format?"),
        ("publish run", "the following arguments are required: --repo-id"),
        ("convert weights.pth --source tms", "'tms' is not one of"),
    ],
)
def test_a_wrong_word_gets_one_line_of_usage_and_the_nearest_name(words, error, capsys):
    usage, said = printed(capsys, *words.split()).splitlines()
    command = "timm-video-psn " + " ".join(words.split()[: 2 if words.startswith("insights") else 1])
    assert usage.startswith(f"usage: {command} ")
    assert said.startswith(f"{command}: error: ")
    assert error in said


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"timm-video-psn {timm_video_psn.__version__}\n"


def test_a_wrong_command_gets_the_nearest(capsys):
    assert main(["valdate"]) == 2
    assert capsys.readouterr().err.endswith("error: 'valdate' is not a command; did you mean validate?\n")


def cpu_seconds(*command):
    """CPU time of a process, its own and the kernel's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_less_than_a_second_of_cpu():
    program = [sys.executable, "-m", "timm_video_psn"]
    assert cpu_seconds(*program, "--help") < 1
    assert cpu_seconds(*program, "train", "--help") < 1


_IMPORTED = (
    "import runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "try:\n"
    "    {run}\n"
    "except SystemExit:\n"
    "    pass\n"
    "print(sorted({{'torch', 'timm', 'numpy', 'av', 'huggingface_hub'}} & sys.modules.keys()))"
)
_AS_INSTALLED = _IMPORTED.format(run="from timm_video_psn.__main__ import main; main()")
_AS_SCRIPT = _IMPORTED.format(run="runpy.run_path(sys.argv[0], run_name='__main__')")


def imported(code, *argv):
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()[-1]


def test_no_help_and_no_wrong_option_imports_torch():
    for command in ([], *ALL):
        assert imported(_AS_INSTALLED, "bin/timm-video-psn", *command, "--help") == "[]", command
    assert imported(_AS_INSTALLED, "bin/timm-video-psn", "train", "--learning-rate") == "[]"
    for script in SCRIPTS:
        assert imported(_AS_SCRIPT, script, "--help") == "[]", script


def test_everybody_else_gets_registered_models():
    code = (
        "import sys, timm_video_psn, timm; print(timm.is_model('psn_resnet50'), 'timm_video_psn.losses' in sys.modules)"
    )
    for program in ("-c", "train_video.py", "elsewhere/timm-video-psn.py/run.py"):
        code_with = f"import sys; sys.argv = [{program!r}, 'train', '--help']; {code}"
        done = subprocess.run([sys.executable, "-c", code_with], check=True, capture_output=True, text=True, cwd="/")
        assert done.stdout == "True True\n", done.stderr
