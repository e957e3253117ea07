"""How a test looks at a video, and the string that says so beside every number: `8x10x3@224/256 dense logits`.

Read: 8 frames x 10 clips x 3 crops of 224 pixels from a short side of 256, clips of the sampling `dense`, the mean of
the views' logits. Numbers of two protocols do not compare.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from timm_video_psn.data import ViewPlan
from timm_video_psn.data.clips.sampling import TEST_SAMPLINGS, check_test_sampling, sampling_name

FUSIONS = ("logits", "probabilities")
CROPS = (1, 3)
_SIZES = re.compile(r"(?:(?P<counts>\d+(?:x\d+){1,2}))?(?:@(?P<img_size>\d+)(?:/(?P<short_side>\d+))?)?")
_FORM = (
    "[FRAMESx]CLIPSxCROPS[@PX[/SHORT_SIDE]] [sampling] [fusion], for example '8x1x1 segments', '2x3@256' or "
    "'8x10x3@224/256 dense probabilities'"
)


@dataclass(frozen=True)
class Protocol:
    """What a test shows the model of a video, and how it joins the views' scores.

    Args:
        num_frames: Frames T of a clip.
        num_clips: Clips of a video.
        num_crops: Squares of a clip: 1, the centre; 3 along the long side.
        img_size: Side of the squares, in pixels.
        short_side: Short side of the frames that the squares are cut from, in pixels.
        sampling: Choice of the frames; a name in `data.clips.sampling.TEST_SAMPLINGS`.
        fusion: Quantity averaged over the views, `logits` or `probabilities`.

    Raises:
        ValueError: A value is out of its range, or the sampling has not so many clips.
    """

    num_frames: int
    num_clips: int
    num_crops: int
    img_size: int
    short_side: int
    sampling: str
    fusion: str = "logits"

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.img_size < 1:
            raise ValueError(f"{self}: a clip has at least 1 frame of at least 1 pixel")
        check_test_sampling(self.sampling, self.num_clips)
        if self.num_crops not in CROPS:
            raise ValueError(f"{self}: {self.num_crops} crops asked for; use 1, the centre, or 3 along the long side")
        if self.short_side < self.img_size:
            raise ValueError(f"{self}: no {self.img_size} pixels can be cut from a short side of {self.short_side}")
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion {self.fusion!r} is unknown; use one of {', '.join(FUSIONS)}")

    @property
    def num_views(self) -> int:
        """Clips x crops."""
        return self.num_clips * self.num_crops

    @property
    def plan(self) -> ViewPlan:
        """The views as the data set takes them."""
        return ViewPlan(*(getattr(self, name) for name in ViewPlan._fields))

    @property
    def slug(self) -> str:
        """The protocol as a file name."""
        return str(self).replace("/", "of").replace(" ", "-")

    def __str__(self) -> str:
        sizes = f"{self.num_frames}x{self.num_clips}x{self.num_crops}@{self.img_size}/{self.short_side}"
        return f"{sizes} {self.sampling} {self.fusion}"


def protocol_of_training(options: Any) -> Protocol:
    """What validation after an epoch of training shows: one clip, the centre.

    Args:
        options: All options of the training, with `img_size` and `num_frames` set.
    """
    short_side = round(options.img_size / options.crop_pct)
    return Protocol(options.num_frames, 1, 1, options.img_size, short_side, options.sampling)


def parse_protocol(text: str, default: Protocol) -> Protocol:
    """Reads a protocol; what it leaves out is as in the default.

    Without numbers, the sampling has its usual number of clips: 2 for `twice`, 10 for `dense`. Without a short side,
    the default's stays, so that 256 pixels are cut from 256 where 224 are.

    Args:
        text: Protocol in words, as `8x10x3@224/256 dense logits`; the numbers come first, the words in any order.
        default: Protocol of the model.

    Raises:
        ValueError: The text is not a protocol, or one that cannot be.

    Example:
        >>> default = Protocol(8, 1, 1, 224, 256, "segments")
        >>> str(parse_protocol("2x3@256 twice", default))
        '8x2x3@256/256 twice logits'
    """
    words = text.split()
    given: dict[str, Any] = {}
    for number, word in enumerate(words):
        word = sampling_name(word)
        sizes = _SIZES.fullmatch(word) if number == 0 else None
        name = "sampling" if word in TEST_SAMPLINGS else "fusion" if word in FUSIONS else None
        if sizes:
            given |= _sizes(sizes)
        elif name and name not in given:
            given[name] = word
        else:
            known = f"samplings are {', '.join(TEST_SAMPLINGS)}, fusions {', '.join(FUSIONS)}"
            raise ValueError(f"protocol {text!r}: {word!r} is not understood; expected {_FORM}; {known}")
    if not words:
        raise ValueError(f"protocol {text!r} is empty; expected {_FORM}")
    return complete(default, **given)


def complete(default: Protocol, **given: Any) -> Protocol:
    """The default with what was given in place of its values; clips and short side follow, unless given, too.

    Args:
        default: Protocol of the model.
        **given: Values by the names of `Protocol`; None for what was not given.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if "sampling" in given and "num_clips" not in given:
        given["num_clips"] = check_test_sampling(given["sampling"])
    if "short_side" not in given:
        given["short_side"] = max(default.short_side, given.get("img_size", default.img_size))
    return replace(default, **given)


def parse_views(text: str) -> tuple[int, int]:
    """Clips and crops of `--views`.

    Args:
        text: Clips and crops, as "10x3".

    Raises:
        ValueError: It is not two numbers.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise ValueError(f"--views {text!r} is not CLIPSxCROPS, for example 1x1, 2x3 or 10x3")
    return int(match[1]), int(match[2])


def check_distinct(protocols: Sequence[Protocol]) -> None:
    """Raises for a protocol that is asked for twice.

    Args:
        protocols: All protocols.

    Raises:
        ValueError: Two are the same.
    """
    twice = sorted({str(protocol) for protocol in protocols if protocols.count(protocol) > 1})
    if twice:
        raise ValueError(f"protocol {', '.join(twice)} asked for more than once; name each once")


def _sizes(match: re.Match[str]) -> dict[str, int]:
    """Numbers by name."""
    counts = [int(count) for count in (match["counts"] or "").split("x") if count]
    names = ("num_frames", "num_clips", "num_crops")[-len(counts) :] if counts else ()
    sizes = {name: int(match[name]) for name in ("img_size", "short_side") if match[name]}
    return {**dict(zip(names, counts, strict=True)), **sizes}


def protocols_of(options: argparse.Namespace, default: Protocol) -> list[Protocol]:
    """The protocols asked for, or the model's own.

    Args:
        options: Options of a validation; see `command_line.validate`.
        default: Protocol of the model.

    Raises:
        ValueError: A protocol is impossible, or asked for twice.
    """
    if options.protocol:
        protocols = [parse_protocol(text, default) for text in options.protocol]
        check_distinct(protocols)
        return protocols
    clips, crops = parse_views(options.views) if options.views else (None, None)
    return [
        complete(
            default,
            num_frames=options.num_frames,
            num_clips=clips,
            num_crops=crops,
            img_size=options.test_img_size,
            short_side=options.test_short_side,
            sampling=options.sampling,
            fusion=options.fusion,
        )
    ]
