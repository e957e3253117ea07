"""Looking into trained models: `timm-video-psn insights` for files, these functions for arrays.

Each file has a function that gives arrays and one that draws them.
"""
