#!/usr/bin/env python
"""Name what a video shows: python predict_video.py FILE --model output/.../best (see --help)."""

from timm_video_psn.__main__ import predict

if __name__ == "__main__":
    raise SystemExit(predict())
