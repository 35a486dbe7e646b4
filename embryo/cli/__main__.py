"""`python -m embryo.cli`."""

from embryo.cli import main

main()
