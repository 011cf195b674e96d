"""Losses side by side with their peers: `python -m benchmarks`."""
