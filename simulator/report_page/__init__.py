"""Reports as one page to look at in a browser: imported when one is asked for."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import exports

if TYPE_CHECKING:
    from cascadesim.simulator.report_page.document import page

__all__ = ["page"]
__getattr__ = exports(__name__, {"page": "simulator.report_page.document"})
