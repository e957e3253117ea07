"""What to do when training waits for data."""

import argparse
import os

LARGEST_SHARE = 0.3


def advise(share: float, options: argparse.Namespace) -> str | None:
    """A warning with its remedies, those that fit the run first; None while the wait is small.

    Args:
        share: of the epoch's time that went by waiting for batches.
        options: see `engine.train.options`.
    """
    if share <= LARGEST_SHARE:
        return None
    cores = os.cpu_count() or 1
    remedies = []
    if options.workers < cores:
        more = min(cores, max(2 * options.workers, 1))
        remedies.append(f"--workers {more} (now {options.workers}, and this machine has {cores} cores)")
    if options.dataset not in ("motion", "shards"):
        short_side = round((options.img_size or 224) / options.crop_pct)
        remedies.append(
            f"smaller videos, made once with `timm-video-psn prepare resize --data-dir "
            f"{options.data_dir or 'DIR'} --output SMALLER --short-side {short_side}`"
        )
    if options.decoder != "torchcodec" and options.dataset != "shards":
        remedies.append("--decoder torchcodec, if benchmarks/loading.py finds it faster here")
    remedies.append("a local disk for the videos, if they come over a network")
    return f"{share:.0%} of the epoch was spent waiting for data; what may help: {'; '.join(remedies)}"
