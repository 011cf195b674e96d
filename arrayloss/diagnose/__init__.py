"""What a function of the user's own is: how it is called, which loss it is, and what is different about it."""

from __future__ import annotations

from .result import CODES, Diagnosis, Reason
from .verdict import diagnose, identify

__all__ = ["CODES", "Diagnosis", "Reason", "diagnose", "identify"]
