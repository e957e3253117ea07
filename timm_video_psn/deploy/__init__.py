"""Trained models on their way out: folded, exported, quantized, streamed."""
