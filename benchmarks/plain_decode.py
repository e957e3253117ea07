"""Reads generated videos in every way and counts what FFmpeg's plain decode confirms.

    python -m benchmarks.plain_decode --files 2800
    python -m benchmarks.plain_decode --files 280 --decoder torchcodec

The files are of 14 kinds of streams in their usual containers, with stored times that are right, wrong, uneven or
given twice, and with damage at random places: flipped, lost, zeroed and random bytes, foreign bytes at the end, cuts,
lost packets. Whatever the reader, frame streams, check, a training epoch and a test return has to be what FFmpeg shows,
and nothing may follow an error that FFmpeg reports before the next key frame. The exit code is 1 otherwise.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import av
from tqdm import tqdm

from tests.data.video.generated_videos import generate
from tests.data.video.test_plain_decode import Judge


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=280, help="videos to generate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of times and damage (default: %(default)s)")
    parser.add_argument("--decoder", default="pyav", help="pyav or torchcodec (default: %(default)s)")
    args = parser.parse_args()
    judge = Judge()
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder), args.files, args.seed)
        for made in tqdm(files, total=args.files, leave=False, disable=None):
            judge.look_at(made, args.decoder)
            made.path.unlink()
    print(f"PyAV {av.__version__}, decoder {args.decoder}, seed {args.seed}")
    for name, count in sorted(judge.counts.items()):
        print(f"{count:>9,}  {name}")
    print(f"{len(judge.faults):>9,}  contradictions")
    for fault in judge.faults:
        print(fault)
    return 1 if judge.faults else 0


if __name__ == "__main__":
    sys.exit(main())
