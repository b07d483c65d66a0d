"""Readers of the user's data, one kind a file; `edgepipe.dataset` puts them together."""
