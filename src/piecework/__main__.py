"""`python -m piecework` is the command line."""

from piecework.cli import main

main()
