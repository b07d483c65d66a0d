"""The Coral Edge TPU: what a compiled file holds, and what its compiler will map."""
