"""Rewrites that bring a graph to what the Edge TPU compiler of 2021 reads and maps; one a file."""
