"""What runs on the device; installs as edgepipe.device_tests."""

if __name__ != "edgepipe.device_tests":
    raise ImportError(
        f"this package is edgepipe.device_tests; it was imported as {__name__!r} (run from the"
        " folder of the checkout? Install it: pip install -e .)"
    )
