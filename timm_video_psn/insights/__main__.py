"""`python -m timm_video_psn.insights`."""

import sys

from timm_video_psn.insights.command_line import main

if __name__ == "__main__":
    sys.exit(main())
