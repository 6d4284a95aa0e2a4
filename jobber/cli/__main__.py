"""`python -m jobber.cli`."""

from jobber.cli import main

main()
