"""Paths as users write them. Every path that a user gives to the package comes through here."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from fouriercache.errors import CacheFolderError, PathError


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


def check_private(path: Path, status: os.stat_result, holds: str, instead: str) -> None:
    """Refuse a folder of a cache that another user owns or can write to: he would decide what is found there.

    Args:
        holds: what is found there is taken for. instead: what to do where the folder is another user's.

    Raises CacheFolderError.
    """
    if not hasattr(os, "getuid"):  # Windows has access lists instead
        return
    if status.st_uid not in (os.getuid(), os.geteuid()):
        raise CacheFolderError(
            f"the cache folder {path} belongs to another user (uid {status.st_uid}).\n"
            f"  What it holds is taken for {holds}: {instead}."
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheFolderError(
            f"the cache folder {path} can be written to by others (mode {stat.S_IMODE(status.st_mode):o}).\n"
            f"  What it holds is taken for {holds}: chmod 700 {path}"
        )
