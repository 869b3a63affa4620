"""Paths as users write them. Every path that a user gives to the package comes through here."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fouriercache.errors import PathError


def path_of(given: str | os.PathLike[str]) -> Path:
    """Return a path in which `~` is the user's home: to pathlib it is a name like any other.

    A user who is not there, as in `~nobody/bundle`, is left as it stands, as a shell leaves it.

    Raises PathError when it is no path, is empty, or is one that no file can have.
    """
    asked: object = given
    text = os.fspath(asked) if isinstance(asked, str | os.PathLike) else None
    if not isinstance(text, str):
        raise PathError(f"{given!r} is no path.\n  Pass the path as text or a Path: 'bundle/'.")
    if not text:
        raise PathError(
            "the path is empty, which would mean the folder that the program runs in.\n  Pass '.' for that."
        )
    path = Path(os.path.expanduser(text))
    try:
        text.encode()  # not every library that reads or writes a file takes other names
        os.lstat(path)
    except ValueError as error:
        raise PathError(f"{text!r} is no path: {error}.\n  Give a name without such characters.") from error
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # what is not there is said where it is wanted, or made
            raise PathError(
                f"a path cannot be followed: {error.strerror}.\n  where: {text}\n  Give another one."
            ) from error
    return path
