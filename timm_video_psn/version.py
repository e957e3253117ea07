"""The version, in its one place, and the versions of what a result depends on."""

__version__ = "0.1.0"

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "av", "pillow", "torchcodec", "safetensors", "huggingface_hub")


def package_versions() -> dict[str, str]:
    """The versions of what a result depends on; what is not installed is left out."""
    import platform
    from importlib import metadata

    versions = {"timm_video_psn": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
