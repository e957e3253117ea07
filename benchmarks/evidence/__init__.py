"""The parts of benchmarks/gestures.py."""
