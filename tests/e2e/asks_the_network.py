"""A command that asks the network, for the test of what refuses that."""

import urllib.request
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Ask a port of this machine where nobody answers."""
    urllib.request.urlopen("http://127.0.0.1:9")
    return 0
