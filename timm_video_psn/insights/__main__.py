"""`python -m timm_video_psn.insights`."""

import sys

from timm_video_psn.insights.cli import main

if __name__ == "__main__":
    sys.exit(main())
