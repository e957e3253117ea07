"""The command lines: a parser for every command of `timm-video-psn`; nothing here imports torch before it is asked."""
