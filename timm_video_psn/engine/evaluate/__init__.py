"""Testing, and comparing results."""
