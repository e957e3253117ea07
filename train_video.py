#!/usr/bin/env python
"""Train a video classifier on a timm backbone: python train_video.py --dataset motion (see --help)."""

from timm_video_psn.engine.cli import train_main

if __name__ == "__main__":
    raise SystemExit(train_main())
