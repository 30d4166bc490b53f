"""`python -m restorevar` is `restorevar`."""

from .cli import main

main()
