"""``python -m chronotope`` is the same as ``chronotope``."""

from chronotope.cli.main import main

main()
