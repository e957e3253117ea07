#!/usr/bin/env python
"""Name what a video shows: python predict_video.py FILE --model output/.../best (see --help)."""

from timm_video_psn.engine.cli import predict_main

if __name__ == "__main__":
    raise SystemExit(predict_main())
