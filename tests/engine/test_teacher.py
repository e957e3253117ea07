"""What a teacher sees of a clip, and which teachers do not fit."""

import pytest
import timm
import torch
from torch import nn

from timm_video_psn.data import normalize_clip
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.precision import Precision
from timm_video_psn.engine.teacher import Teacher, load_teacher

PRECISION = Precision(torch.device("cpu"), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
NAMES = [f"class {number}" for number in range(5)]


def clips(frames=4, size=32):
    return torch.randint(0, 256, (2, frames, size, size, 3), dtype=torch.uint8)


def test_the_teacher_sees_the_clip_in_its_own_normalisation(model_folder):
    teacher, clip = load_teacher(model_folder, NAMES, PRECISION, 4), clips()
    cfg = teacher.model.pretrained_cfg
    expected = teacher.model(normalize_clip(clip, cfg["mean"], cfg["std"]))
    found = teacher.logits(PRECISION.clip(clip))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not found.requires_grad


def test_frames_and_pixels_become_the_teachers(model_folder):
    teacher = load_teacher(model_folder, NAMES, PRECISION, 8)
    clip = PRECISION.clip(clips(frames=8, size=64))
    small = nn.functional.interpolate(clip.transpose(1, 2).flatten(0, 1), (32, 32), mode="bilinear", antialias=True)
    small = small.unflatten(0, (2, 8)).transpose(1, 2)[:, :, [1, 3, 5, 7]]
    four = load_teacher(model_folder, NAMES, PRECISION, 4)
    torch.testing.assert_close(teacher.logits(clip), four.logits(small), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="looks at 4 frames, and the clips have 2; use --num-frames 4 or more"):
        load_teacher(model_folder, NAMES, PRECISION, 2)


def test_an_image_model_answers_with_the_average_of_its_frames(tmp_path):
    model = timm.create_model("test_resnet", num_classes=5).eval()
    cfg = {"label_names": NAMES, "mean": PRECISION.mean, "std": PRECISION.std, "input_size": (3, 32, 32)}
    export_model(model, tmp_path / "image", {"pretrained_cfg": cfg}, {})
    teacher, clip = load_teacher(str(tmp_path / "image"), NAMES, PRECISION, 4), PRECISION.clip(clips())
    assert not isinstance(teacher, type(model))
    expected = torch.stack([model(clip[:, :, frame]) for frame in range(4)]).mean(0)
    torch.testing.assert_close(teacher.logits(clip), expected, atol=1e-4, rtol=1e-4)


def test_a_teacher_of_other_classes_is_refused(model_folder):
    with pytest.raises(ValueError, match=r"the 5 classes of the teacher .* are not the 5 of the data"):
        load_teacher(model_folder, list(reversed(NAMES)), PRECISION, 4)
    with pytest.raises(FileNotFoundError, match="nowhere is not a model folder"):
        load_teacher("nowhere", NAMES, PRECISION, 4)


def test_teachers_stay_as_they_are(model_folder):
    teacher = load_teacher(model_folder, NAMES, PRECISION, 4)
    assert isinstance(teacher, Teacher)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not teacher.model.training
