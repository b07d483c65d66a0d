"""Rewrites that bring a quantized model to what Vela puts on the NPU; one a file."""
