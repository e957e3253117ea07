"""Preparing and checking data sets."""
