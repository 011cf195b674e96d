"""What needs other packages than the tests is run by .ci/peers."""

collect_ignore = ["theirs"]
