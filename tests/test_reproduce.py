"""The commands of docs/reproduce.md are ones that the programs accept, and name the runs that they mean."""

import re
import shlex
from pathlib import Path

import pytest
import timm
import torch

from tests.engine.runs import settled
from timm_video_psn.command_line.validate import parse_validate_options
from timm_video_psn.engine.protocol import Protocol, protocol_of_training, protocols_of

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
TRAINING = re.findall(r"^python train_video\.py (.*)$", TEXT, re.MULTILINE)
PARAMETERS = {
    "sthv1-8f-112-tsn": 23.87,
    "sthv1-8f-112-gst": 21.04,
    "sthv1-8f-112-gst101": 37.52,
    "sthv1-8f-112-rf_s": 27.57,
    "sthv1-8f-112-psn": 27.55,
    "sthv1-8f-112-sixteenth": 24.05,
    "sthv1-8f-112-both": 27.55,
    "sthv1-8f-112-nopool": 27.55,
    "sthv1-8f-112-undilated": 27.95,
    "sthv1-8f-112-1d": 27.45,
}
TESTS = re.findall(r"python validate_video\.py ([^`\n]*)", TEXT)


@pytest.mark.parametrize("command", TRAINING)
def test_a_training_command_has_the_frames_and_the_size_of_its_row(command):
    options = settled(*shlex.split(command))
    dataset, frames, *size = options.experiment.split("-")
    assert (options.dataset, options.num_frames, options.img_size) == (
        dataset,
        int(frames.removesuffix("f")),
        int(size[0]) if size else 224,
    )
    assert (options.lr, options.batch_size) == (0.01, 64)
    own = not size or size == ["112"]
    assert own == (options.model == "psn_resnet50" and not options.model_kwargs)


@pytest.mark.parametrize(("experiment", "millions"), PARAMETERS.items())
def test_a_model_of_the_ablations_has_the_parameters_that_the_paper_prints_for_it(experiment, millions):
    """But for differences up to 0.06 M, which docs/paper.md explains."""
    (command,) = (each for each in TRAINING if f"--experiment {experiment} " in f"{each} ")
    options = settled(*shlex.split(command))
    with torch.device("meta"):
        model = timm.create_model(options.model, num_classes=174, **options.model_kwargs)
    found = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("command", TESTS)
def test_a_test_command_is_accepted_and_tests_a_run_that_is_trained_above(command):
    found = re.search(r"output/([\w-]+)/best", command)
    assert found is None or any(f"--experiment {found[1]}" in f"{each} " for each in TRAINING)
    parse_validate_options(shlex.split(command))


def trained_protocol(run: str) -> Protocol:
    """How the model of a run above was validated."""
    (command,) = (each for each in TRAINING if f"--experiment {run} " in f"{each} ")
    return protocol_of_training(settled(*shlex.split(command)))


def test_the_ensemble_joins_the_score_files_that_the_commands_before_it_write():
    written = set()
    for options in (parse_validate_options(shlex.split(command)) for command in TESTS):
        if options.model and options.output:
            (protocol,) = protocols_of(options, trained_protocol(Path(options.model).parent.name))
            written.add(f"{options.output}/{protocol.slug}/scores.npz")
    (joined,) = [
        options.ensemble for options in map(parse_validate_options, map(shlex.split, TESTS)) if options.ensemble
    ]
    assert set(joined) == written


def test_every_row_of_the_paper_is_there():
    assert len(TRAINING) == len({each.partition("--experiment ")[2].split()[0] for each in TRAINING}) == 6 + 21 + 30
    assert len(TESTS) == 10 + 1 + 3
