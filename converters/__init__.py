"""One file an arrow, named <to>_from_<from>; installs as edgepipe.converters."""

if __name__ != "edgepipe.converters":
    raise ImportError(
        f"this package is edgepipe.converters; it was imported as {__name__!r} (run from the"
        " folder of the checkout? Install it: pip install -e .)"
    )
