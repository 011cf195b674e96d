"""Nothing below `double` is a test: it builds the CPU double of CuPy."""

collect_ignore = ["double"]
