"""What once went wrong: a test for each, named for it."""
