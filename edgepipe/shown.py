"""What results have in common that a notebook shows as more than their `repr`."""

from __future__ import annotations


class Shown:
    """`edgepipe.report.html.notebook` knows how, by the class."""

    def _repr_html_(self) -> str:
        from edgepipe.report.html import notebook

        return notebook.show(self)
