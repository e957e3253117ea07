#!/usr/bin/env python
"""Train a video classifier on a timm backbone: python train_video.py --dataset motion (see --help)."""

from timm_video_psn.__main__ import train

if __name__ == "__main__":
    raise SystemExit(train())
