"""How a command ends (experience §4)."""

from typing import Final

REFUSED: Final = 1
USAGE: Final = 2
CONFIGURATION: Final = 3
UNREACHABLE: Final = 4
UNKNOWN: Final = 5
INTERRUPTED: Final = 130
