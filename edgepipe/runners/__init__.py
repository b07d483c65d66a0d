"""Runners execute an artifact on data, one file a runtime; all run in a toolchain's worker."""
