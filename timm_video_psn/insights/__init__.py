"""Looking into trained models: `python -m timm_video_psn.insights` for files, these functions for arrays.

Each file has a function that gives arrays and one that draws them.
"""
