"""`python -m stream.cli` is `riverwatch`."""

from stream.cli.main import main

main()
