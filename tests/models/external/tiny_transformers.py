"""Tiny video classifiers of transformers as local folders, as `save_pretrained` writes them."""

import json

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "num_frames": 4,
}
CONFIGS = {
    "videomae": ("VideoMAE", {**SIZES, "patch_size": 16, "tubelet_size": 2}),
    "timesformer": ("Timesformer", {**SIZES, "patch_size": 16}),
    "vivit": ("Vivit", {**SIZES, "tubelet_size": [2, 16, 16]}),
    "vjepa2": (
        "VJEPA2",
        {
            "patch_size": 16,
            "crop_size": 32,
            "frames_per_clip": 4,
            "tubelet_size": 2,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_ratio": 2,
            "num_pooler_layers": 1,
        },
    ),
}
PROCESSOR = {
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.2, 0.1],
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
}


def save_network(folder, kind, **settings):
    """Writes the network of a kind into a folder, and returns it."""
    import transformers

    prefix, config = CONFIGS[kind]
    own = getattr(transformers, f"{prefix}Config")(**config, id2label={0: "left", 1: "right", 2: "up"}, **settings)
    network = getattr(transformers, f"{prefix}ForVideoClassification")(own).eval()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return network
