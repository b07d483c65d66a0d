"""The report as one HTML page without network, and as a fragment for notebooks."""
