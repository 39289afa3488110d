"""``python -m robustcodec`` is the command line."""

from robustcodec.cli import main

main()
