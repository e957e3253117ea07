"""Videos out of tar shards."""
