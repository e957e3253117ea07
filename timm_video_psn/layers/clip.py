"""Clips as batches of frames, and back: views, never copies, when the clip is laid out for it.

A clip (B, C, T, H, W) whose memory runs B, T, H, W, C (a decoded video does) folds without a copy into a batch of
frames (B*T, C, H, W) in channels_last memory, which in turn is, without a copy, the map (B, C, T, H*W) in channels_last
memory: there a temporal convolution is a 2D convolution with a (k, 1) kernel, and a temporal pool a 2D pool.
"""

from torch import Tensor


def fold_clip(clip: Tensor) -> Tensor:
    """Frames into the batch.

    Shape:
        clip: (B, C, T, H, W) -> (B*T, C, H, W)
    """
    batch, channels, frames, height, width = clip.shape
    return clip.transpose(1, 2).reshape(batch * frames, channels, height, width)


def unfold_clip(x: Tensor, num_frames: int) -> Tensor:
    """Frames back out of the batch.

    Shape:
        x: (B*T, C, H, W) -> (B, C, T, H, W)
    """
    return split_frames(x, num_frames).transpose(1, 2)


def split_frames(x: Tensor, num_frames: int) -> Tensor:
    """A folded batch with its frames in a dimension of their own, after the clips' dimension.

    Shape:
        x: (B*T, ...) -> (B, T, ...)
    """
    return x.unflatten(0, (_num_clips(x, num_frames), num_frames))


def frames_to_rows(x: Tensor, num_frames: int) -> Tensor:
    """The folded map with time as its rows and all pixels as its columns.

    Shape:
        x: (B*T, C, H, W) -> (B, C, T, H*W)
    """
    batch = _num_clips(x, num_frames)
    _, channels, height, width = x.shape
    # Pixels first, channels last: in channels_last memory every step is a view.
    return x.permute(0, 2, 3, 1).reshape(batch, num_frames, height * width, channels).permute(0, 3, 1, 2)


def rows_to_frames(x: Tensor, height: int, width: int) -> Tensor:
    """Undoes `frames_to_rows`.

    Shape:
        x: (B, C, T, H*W) -> (B*T, C, H, W)
    """
    batch, channels, frames, _ = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch * frames, height, width, channels).permute(0, 3, 1, 2)


def _num_clips(x: Tensor, num_frames: int) -> int:
    """B of a folded batch B*T."""
    if x.shape[0] % num_frames:
        raise ValueError(
            f"a folded batch of {x.shape[0]} frames does not hold whole clips of num_frames={num_frames}; "
            "set num_frames to the length of the clips (VideoNet does this itself)"
        )
    return x.shape[0] // num_frames
