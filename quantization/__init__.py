"""Int8: calibration, sensitivity and repair; installs as edgepipe.quantization."""

if __name__ != "edgepipe.quantization":
    raise ImportError(
        f"this package is edgepipe.quantization; it was imported as {__name__!r} (run from the"
        " folder of the checkout? Install it: pip install -e .)"
    )
