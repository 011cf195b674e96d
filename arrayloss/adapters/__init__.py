"""One thin file an array library. Nothing here knows a formula, and importing this imports no library."""
