#!/usr/bin/env python
"""Publish a trained model on the Hugging Face Hub: python hub/publish.py output/RUN --repo-id USER/NAME."""

from timm_video_psn.__main__ import publish

if __name__ == "__main__":
    raise SystemExit(publish())
