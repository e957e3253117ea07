#!/usr/bin/env python
"""Test a trained model, clips x crops: python validate_video.py --model output/.../best --data-dir DIR (see --help)."""

from timm_video_psn.__main__ import validate

if __name__ == "__main__":
    raise SystemExit(validate())
