"""How options are settled, from plain values."""

from argparse import Namespace

import pytest

from timm_video_psn.command_line.train import parse_options
from timm_video_psn.engine.train.options import ModelDefaults, TrainOptions, resolve_options

MODEL = ModelDefaults(16, 112, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def resolve(*argv: str, device: str = "cuda", processes: int = 1) -> TrainOptions:
    return resolve_options(parse_options(argv), MODEL, device, processes)


def test_what_is_left_open_comes_from_model_and_machine_and_what_is_asked_stays():
    left = resolve()
    assert (left.num_frames, left.img_size, left.mean, left.std, left.device) == (*MODEL, "cuda")
    asked = resolve("--num-frames", "4", "--img-size", "64", "--mean", "1", "2", "3", "--device", "cpu")
    assert (asked.num_frames, asked.img_size, asked.mean, asked.std) == (4, 64, (1.0, 2.0, 3.0), MODEL.std)
    assert asked.device == "cpu"


def test_a_recipe_keeps_none_where_the_model_decides_so_that_it_serves_another_model():
    kept = resolve("--img-size", "64").as_asked()
    assert [name for name in MODEL._fields if kept[name] is None] == ["num_frames", "mean", "std"]
    assert kept["img_size"] == 64
    assert kept["decay_milestones"] == [50, 60, 70]
    assert "left_to_model" not in kept


def test_resolving_changes_nothing_but_its_result():
    asked = parse_options(["--model-kwargs", "proportion=0.5"])
    before = Namespace(**vars(asked))
    assert resolve_options(asked, MODEL, "cpu", 2) == resolve_options(asked, MODEL, "cpu", 2)
    assert asked == before


@pytest.mark.parametrize(
    ("argv", "processes", "lr"),
    [
        ("--batch-size 64", 1, 0.01),
        ("--batch-size 16 --grad-accum-steps 2", 1, 0.005),
        ("--batch-size 16 --grad-accum-steps 2", 4, 0.02),
        ("--batch-size 8", 8, 0.01),
        ("--batch-size 16 --opt adamw", 1, 0.005),  # adaptive: by the square root, as in timm
        ("--batch-size 16 --opt adamw --lr-base-scale linear", 1, 0.0025),
        ("--batch-size 8 --opt adamw --lr-base-size 16", 8, 0.02),
        ("--batch-size 16 --lr 0.3", 4, 0.3),
        ("--recipe sthv1 --batch-size auto", 1, 0.01),
    ],
)
def test_the_learning_rate_follows_the_clips_of_an_update(argv, processes, lr):
    assert resolve(*argv.split(), processes=processes).lr == pytest.approx(lr)
