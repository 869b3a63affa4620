"""Paths as users write them. Every path that a user gives to the package comes through here."""

from __future__ import annotations

import os
from pathlib import Path


def path_of(given: str | os.PathLike[str]) -> Path:
    """Return a path in which `~` is the user's home: to pathlib it is a name like any other.

    A user who is not there, as in `~nobody/bundle`, is left as it stands, as a shell leaves it.
    """
    return Path(os.path.expanduser(given))
