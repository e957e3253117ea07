"""A stream of frames gives what the whole clip gives, frame after frame."""

import io

import pytest
import timm
import torch

from tests.deploy.plain_arithmetic import PlainArithmetic, convolution, mm
from timm_video_psn.deploy.fold import fold
from timm_video_psn.deploy.stream import Stream, StreamStep

SYSTEMS = {
    "psn": {"temporal": "psn"},
    "psn avg": {"temporal": "psn", "pool": "avg", "dilated": False, "receptive_field": (9, 3, 3)},
    "psn none": {"temporal": "psn", "pool": "none", "fusion": "grouping", "receptive_field": (5, 5, 5)},
    **{name: {"temporal": name} for name in ("tsm", "gsm", "rf_s", "rf_l", "rf_l_inception", "rf_l_inception_t")},
}
BACKBONES = ("test_convnext", "test_efficientnet", "test_vit")
SIZE = 32


def build(name: str = "psn", **settings):
    torch.manual_seed(0)
    settings = {"backbone": "test_resnet", "num_classes": 5, "causal": True, **SYSTEMS[name], **settings}
    if settings["temporal"].startswith(("psn", "rf")):
        settings["expand_init"] = 1.0
    model = timm.create_model("video_net", num_frames=8, **settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * parameter.abs().mean().clamp(min=0.03) * torch.randn_like(parameter))
    return model.eval()


def random_clip(frames: int, batch: int = 1, size: int = SIZE) -> torch.Tensor:
    return torch.randn(batch, 3, frames, size, size, dtype=torch.float64)


def streamed(stream: Stream, clip: torch.Tensor) -> list[torch.Tensor]:
    return [stream.step(frame) for frame in clip.unbind(2)]


@pytest.mark.parametrize("form", ["as it is", "folded", "exported"])
@torch.no_grad()
def test_each_frame_gives_the_logits_of_the_clip_so_far_to_the_last_bit(form, compiler):
    model = build("psn", layers=(1, 1, 1, 1), proportion=0.125)
    model = fold(model) if form == "folded" else model
    clip = random_clip(40)
    step, state = StreamStep(model), StreamStep(model).initial_state(clip[:, :, 0])
    run = saved_and_loaded(step, (clip[:, :, 0], *state)) if form == "exported" else step
    with PlainArithmetic():
        for length, frame in enumerate(clip.unbind(2), 1):
            logits, *state = run(frame, *state)
            assert torch.equal(logits, model(clip[:, :, :length]))


def saved_and_loaded(step: StreamStep, example: tuple[torch.Tensor, ...]):
    """The graph of the step as a file has it."""
    file = io.BytesIO()
    torch.export.save(torch.export.export(step, example), file)
    file.seek(0)
    return torch.export.load(file).module()


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_every_causal_system_streams_to_the_last_bit(name, costly):
    model = build(name)
    clip = random_clip(9)
    with PlainArithmetic():
        steps = streamed(Stream(model), clip)
        for length in (1, 2, 3, 5, 9):
            assert torch.equal(steps[length - 1], model(clip[:, :, :length]))


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_every_kind_of_backbone_streams(backbone):
    model = build("psn", backbone=backbone)
    clip = random_clip(17, size=160 if backbone == "test_vit" else SIZE)
    steps = streamed(Stream(model), clip)
    for length in (1, 2, 7, 17):
        torch.testing.assert_close(steps[length - 1], model(clip[:, :, :length]), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_streams_run_beside_one_another():
    model = build("gsm")
    clips = random_clip(5, batch=3)
    together = streamed(Stream(model), clips)[-1]
    torch.testing.assert_close(together, model(clips))
    alone = Stream(model)
    for frame in clips[1].unbind(1):
        logits = alone.step(frame)
    torch.testing.assert_close(logits, together[1])


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_frames_may_come_in_either_memory_layout(name):
    model = build(name)
    stream, clip = Stream(model), random_clip(4)
    for t, frame in enumerate(clip.unbind(2)):
        layout = torch.channels_last if t % 2 else torch.contiguous_format
        logits = stream.step(frame.contiguous(memory_format=layout))
    torch.testing.assert_close(logits, model(clip))


@torch.no_grad()
def test_a_stream_begins_anew_and_leaves_the_model_alone():
    model = build("tsm")
    clip, other = random_clip(3), random_clip(3)
    stream = Stream(model)
    first = streamed(stream, clip)[-1]
    streamed(stream, other)
    stream.reset()
    assert torch.equal(streamed(stream, clip)[-1], first)
    torch.testing.assert_close(model(clip), first)


@torch.no_grad()
def test_recent_frames_weigh_more_with_a_decay():
    model = build("tsm")
    clip = random_clip(4)
    alone = [step.clone() for step in streamed(Stream(model), clip)]
    frames = [alone[0], *(alone[t] * (t + 1) - alone[t - 1] * t for t in range(1, 4))]  # logits of each frame
    weights = [0.5 ** (3 - t) for t in range(4)]
    expected = sum(weight * frame for weight, frame in zip(weights, frames, strict=True)) / sum(weights)
    torch.testing.assert_close(streamed(Stream(model, decay=0.5), clip)[-1], expected)


@torch.no_grad()
def test_the_state_is_a_tuple_of_tensors_of_four_dimensions_at_most():
    frame = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.float64)
    for name in SYSTEMS:
        step = StreamStep(build(name))
        state = step.initial_state(frame)
        _, *after = step(frame, *state)
        assert [value.shape for value in after] == [value.shape for value in state]
        assert max(value.ndim for value in state) <= 4


@pytest.mark.parametrize("name", ["psn", "tsm", "gsm", "rf_s"])
def test_a_model_that_sees_later_frames_is_refused(name):
    model = build(name, causal=False)
    with pytest.raises(ValueError, match=r"backbone\..* sees later frames; .* built and trained with causal=True"):
        Stream(model)


@pytest.mark.parametrize("decay", [0, -1, 1.5])
def test_a_decay_that_is_no_share_is_refused(decay):
    with pytest.raises(ValueError, match=rf"decay={decay} is not in \(0, 1\]"):
        Stream(build("tsm"), decay=decay)


def test_plain_arithmetic_is_arithmetic():
    x, weight, bias = torch.randn(2, 6, 9, 8), torch.randn(4, 3, 3, 2), torch.randn(4)
    expected = torch.nn.functional.conv2d(x, weight, bias, (2, 1), (1, 2), (1, 3), 2)
    torch.testing.assert_close(convolution(x, weight, bias, [2, 1], [1, 2], [1, 3], False, [0, 0], 2), expected)
    a, b = torch.randn(3, 4, 5), torch.randn(3, 5, 2)
    torch.testing.assert_close(mm(a, b), a @ b)
