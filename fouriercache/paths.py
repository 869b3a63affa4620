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


def make_private(path: Path) -> None:
    """Make a folder for this user alone, and so each above it that is missing: `mkdir` alone gives those the umask.

    Raises OSError when that cannot be done.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_private(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def check_private(path: Path, holds: str, instead: str) -> None:
    """Refuse a folder of a cache that others own or can write to: they would decide what is found there.

    So they would if they could write to a folder above it, and put one of theirs in its place; a sticky bit, as that of
    /tmp, forbids that. Owners of folders above are trusted, as administrators are. What is not there is nobody's yet.

    Args:
        holds: what is found there is taken for. instead: what to do where the folder is another user's.

    Raises CacheFolderError.
    """
    if not hasattr(os, "getuid"):  # Windows has access lists instead
        return
    taken = f"  What it holds is taken for {holds}: "
    status = _status(path)
    if status is not None and status.st_uid not in (os.getuid(), os.geteuid()):
        raise CacheFolderError(
            f"the cache folder {path} belongs to another user (uid {status.st_uid}).\n{taken}{instead}."
        )
    if status is not None and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheFolderError(
            f"the cache folder {path} can be written to by others (mode {stat.S_IMODE(status.st_mode):o}).\n"
            f"{taken}chmod 700 {path}"
        )
    for above in (*path.absolute().parents, *Path(os.path.realpath(path)).parents):  # a link can be replaced, too
        status = _status(above)
        if status is not None and _lets_others_replace(status):
            raise CacheFolderError(
                f"the cache folder {path} is in {above}, which others can write to (mode "
                f"{stat.S_IMODE(status.st_mode):o}), so they could put another in its place.\n"
                f"{taken}{instead}, or chmod go-w {above}"
            )


def _status(folder: Path) -> os.stat_result | None:
    """What is known of a folder; None if there is none. Raises CacheFolderError when it cannot be looked at."""
    try:
        return folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheFolderError(
            f"it cannot be seen whose the cache folder {folder} is: {error.strerror or error}.\n"
            "  Name another folder, or change its permissions."
        ) from error


def _lets_others_replace(status: os.stat_result) -> bool:
    """Whether somebody else may rename what is in a folder."""
    if status.st_mode & stat.S_ISVTX:
        return False
    return bool(status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)))


def _is_own_group(gid: int) -> bool:
    """Whether a group is this user's alone: many systems make one for each user, and let it write to his folders."""
    import grp  # not on Windows
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return (gid, group.gr_name) == (user.pw_gid, user.pw_name) and set(group.gr_mem) <= {user.pw_name}
