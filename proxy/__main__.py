"""``python -m proxy`` is ``gatepost``."""

from proxy.cli import main

main()
