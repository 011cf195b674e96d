"""What every loss shares. Nothing here knows an array library or a formula."""
