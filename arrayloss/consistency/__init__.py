"""Is it the same loss? Independent definitions, and the comparison of backends with them and with each other."""
