"""Other people's video networks behind this package's API: `torchvision:NAME` and `transformers:REPO`."""
