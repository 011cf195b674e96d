"""How accurate every loss is over its whole domain; `python -m tests.accuracy` prints it."""
