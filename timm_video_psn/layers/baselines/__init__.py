"""The temporal modules that the paper compares with, one file a system."""
