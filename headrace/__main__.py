"""`python -m headrace`: the command where it is not installed as one, such as in the image."""

from headrace.cli import main

main()
