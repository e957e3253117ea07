"""What goes into an exported graph and comes out of it."""

import pytest
import timm
import torch

from timm_video_psn.data import normalize_clip
from timm_video_psn.deploy.fold import fold
from timm_video_psn.deploy.program import BatchRange, Normalization, Program, export_program

SIZE, FRAMES = 32, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SYSTEMS = ("psn", "tsm", "tsn", "gsm", "tam", "rf_s", "gst", "tea")


def build(temporal: str, **settings):
    backbone = {"backbone": "resnet26", "layers": (1, 1, 1, 1)} if temporal in ("gst", "tea") else {}
    settings = {"backbone": "test_resnet", "num_frames": FRAMES, "num_classes": 5, **backbone, **settings}
    return timm.create_model("video_net", temporal=temporal, **settings).eval()


def program(model, layout: str = "clip", normalization: Normalization | None = None) -> Program:
    return Program(model, layout, (SIZE, SIZE), normalization).eval()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", SYSTEMS)
def test_frames_run_through_tensors_of_four_dimensions_at_most(name, causal, compiler):
    if causal and name not in ("psn", "tsm", "gsm", "rf_s"):
        pytest.skip(f"{name} has no causal form")
    model = fold(build(name, **({"causal": True} if causal else {})))
    graph = export_program(program(model, "frames"), BatchRange(1, 1)).graph
    shapes = [node.meta["val"].shape for node in graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert max(map(len, shapes)) == 4


@pytest.mark.parametrize("layout", ["clip", "frames"])
def test_bytes_go_in_and_probabilities_come_out(layout):
    model = build("psn", expand_init=1.0)
    frames = torch.randint(0, 256, (1, FRAMES, SIZE, SIZE, 3), dtype=torch.uint8)
    found = program(model, layout, Normalization(MEAN, STD))(frames if layout == "clip" else frames[0])
    logits = model(normalize_clip(frames, MEAN, STD))
    torch.testing.assert_close(found, logits.softmax(1))
    each = program(model, layout, Normalization(MEAN, STD, "sigmoid"))(frames if layout == "clip" else frames[0])
    torch.testing.assert_close(each, logits.sigmoid())


def test_frames_of_a_clip_give_the_logits_of_the_clip():
    model = build("psn", expand_init=1.0)
    clip = torch.randn(1, 3, FRAMES, SIZE, SIZE)
    torch.testing.assert_close(program(model, "frames")(clip[0].transpose(0, 1)), model(clip))


@pytest.mark.parametrize("batch", ["1", "2", "dynamic", "1-2"])
def test_a_graph_takes_the_numbers_of_clips_that_were_asked_for_and_no_others(batch, compiler):
    sizes = BatchRange.parse(batch, most=6)
    whole = program(fold(build("psn", expand_init=1.0)))
    run = export_program(whole, sizes).module()
    for clips in {*sizes.tested, sizes.largest}:
        (x,) = whole.example(clips)
        torch.testing.assert_close(run(x), whole(x))
    for clips in {sizes.smallest - 1, sizes.largest + 1} - {0}:
        with pytest.raises((AssertionError, RuntimeError), match=r"[Gg]uard"):
            run(*whole.example(clips))


def test_a_graph_takes_no_clips_of_another_length_or_size(compiler):
    whole = program(fold(build("tsm")))
    run = export_program(whole, BatchRange(1, 4)).module()
    for x in (whole.example(1)[0][:, :, :-1], whole.example(1)[0][..., :-1]):
        with pytest.raises((AssertionError, RuntimeError), match=r"[Gg]uard"):
            run(x)


@pytest.mark.parametrize(
    ("text", "ends", "tested"),
    [("1", (1, 1), (1, 1)), ("4", (4, 4), (4, 4)), ("dynamic", (1, 8), (1, 3)), ("1-2", (1, 2), (1, 2))],
)
def test_numbers_of_clips_are_read_from_words(text, ends, tested):
    batch = BatchRange.parse(text, most=8)
    assert (batch.smallest, batch.largest) == ends
    assert batch.tested == tested


@pytest.mark.parametrize("text", ["0", "any", "2-3", "1-0", "1-2-3", "-1", "1.5", ""])
def test_other_words_are_refused(text):
    with pytest.raises(ValueError, match=f"batch '{text}' is not a number of clips; use a number"):
        BatchRange.parse(text, most=8)


def test_frames_are_of_one_clip():
    with pytest.raises(ValueError, match="layout='frames' takes the frames of one clip; batch 1-4 needs layout='clip'"):
        export_program(program(build("tsn"), "frames"), BatchRange(1, 4))
    with pytest.raises(ValueError, match="layout='NCHW' is unknown; use one of clip, frames, stream"):
        program(build("tsn"), "NCHW")
