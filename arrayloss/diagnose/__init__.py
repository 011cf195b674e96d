"""What a function of the user's own is: how it is called, which loss it is, and what is different about it.

>>> import numpy as np
>>> from arrayloss.diagnose import diagnose
>>> print(diagnose(lambda x, t: np.mean((x - t) ** 2), name="mse", reference="squared_error").title)
mse is the same loss as squared_error.
"""

from __future__ import annotations

from .result import CODES, Diagnosis, Reason
from .verdict import diagnose, identify

__all__ = ["CODES", "Diagnosis", "Reason", "diagnose", "identify"]
