"""Random losses and random command lines against plain formulas and plain rules: `.ci/exhaustive` runs them for ten minutes."""
