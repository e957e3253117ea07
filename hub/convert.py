#!/usr/bin/env python
"""Bring official or image weights into the form of a model folder: python hub/convert.py --help."""

from timm_video_psn.__main__ import convert

if __name__ == "__main__":
    raise SystemExit(convert())
