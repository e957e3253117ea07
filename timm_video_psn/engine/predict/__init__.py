"""Labelling videos."""
