"""``python -m gatepost`` is ``gatepost``."""

from gatepost_start import main

main()
