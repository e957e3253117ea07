"""Publishing trained models on the Hugging Face Hub: `timm-video-psn publish` and `timm-video-psn convert`."""
