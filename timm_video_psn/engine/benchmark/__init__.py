"""Models measured side by side."""
