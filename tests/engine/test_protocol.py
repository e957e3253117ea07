"""Protocols: read, completed and written, and what cannot be is refused."""

import argparse

import pytest

from timm_video_psn.engine.protocol import (
    Protocol,
    check_distinct,
    complete,
    parse_protocol,
    parse_views,
    protocol_of_training,
)

DEFAULT = Protocol(8, 1, 1, 224, 256, "segments")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1x1", "8x1x1@224/256 segments logits"),
        ("8x1x1 segments", "8x1x1@224/256 segments logits"),
        ("16x10x3@224 dense logits", "16x10x3@224/256 dense logits"),
        ("2x3@256 twice probabilities", "8x2x3@256/256 twice probabilities"),
        ("2x3@256/293 probabilities twice", "8x2x3@256/293 twice probabilities"),
        ("3x1 tsn", "8x3x1@224/256 segments logits"),
        ("@288", "8x1x1@288/288 segments logits"),
        ("twice", "8x2x1@224/256 twice logits"),
        ("dense", "8x10x1@224/256 dense logits"),
        ("probabilities", "8x1x1@224/256 segments probabilities"),
    ],
)
def test_what_is_left_out_is_as_in_the_default(text, expected):
    protocol = parse_protocol(text, DEFAULT)
    assert str(protocol) == expected
    assert parse_protocol(str(protocol), Protocol(3, 1, 1, 9, 9, "dense")) == protocol  # nothing is left to a default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("8 segments", "'8' is not understood; expected"),
        ("8x1x1x1", "is not understood"),
        ("1x1 1x1", "'1x1' is not understood"),
        ("1x1 middle", "'middle' is not understood.*samplings are segments, tsm, twice, dense, uniform"),
        ("dense twice", "'twice' is not understood"),
        ("3x1 twice", "3 clips asked for, but sampling 'twice' has 2"),
        ("2x1 tsm", "sampling 'tsm' has 1;"),
        ("0x1", "has 1 or more"),
        ("1x2", "2 crops asked for; use 1, the centre, or 3"),
        ("1x1@224/200", "no 224 pixels can be cut from a short side of 200"),
        ("0x1x1", "at least 1 frame"),
        ("1x1@0", "at least 1 pixel"),
    ],
)
def test_what_is_no_protocol_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_protocol(text, DEFAULT)


def test_values_that_were_not_given_stay():
    assert complete(DEFAULT, num_clips=None, sampling=None) == DEFAULT
    assert complete(DEFAULT, num_clips=4, sampling="dense").num_clips == 4
    with pytest.raises(ValueError, match="fusion 'max' is unknown"):
        complete(DEFAULT, fusion="max")


def test_views_are_clips_and_crops():
    assert parse_views("10x3") == (10, 3)
    with pytest.raises(ValueError, match="'10' is not CLIPSxCROPS"):
        parse_views("10")


def test_a_protocol_counts_once():
    check_distinct([DEFAULT, complete(DEFAULT, num_clips=2)])
    with pytest.raises(ValueError, match="8x1x1@224/256 segments logits asked for more than once"):
        check_distinct([DEFAULT, DEFAULT])


def test_the_protocol_of_training_is_its_validation():
    options = argparse.Namespace(num_frames=8, img_size=224, crop_pct=0.875, sampling="dense")
    assert str(protocol_of_training(options)) == "8x1x1@224/256 dense logits"
    assert protocol_of_training(options).slug == "8x1x1@224of256-dense-logits"
    assert complete(DEFAULT, num_clips=10, num_crops=3).num_views == 30
