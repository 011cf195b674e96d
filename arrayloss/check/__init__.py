"""Independent definitions, and the comparison of backends with them and with each other, in numbers; in words: `arrayloss.diagnose`.

>>> from arrayloss.check import check
>>> check("squared_error", backends=["numpy"], modes=["eager"]).passed
True
"""

from __future__ import annotations

try:
    from .compare import check
    from .report import DisagreementError, Report
    from .rows import Row, Worst
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("arrayloss"):
        raise
    raise ModuleNotFoundError(f"{error.name} is not installed; checking needs: pip install 'arrayloss[check]'", name=error.name) from error

__all__ = ["DisagreementError", "Report", "Row", "Worst", "check"]
