"""`python -m arrayloss` is the `arrayloss` command."""

from .cli import main

if __name__ == "__main__":
    main()
