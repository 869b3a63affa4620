"""Why something is not kept on disk. It is no error of the caller's: the capture is used, and made again next time."""

from __future__ import annotations


class NotKeptError(Exception):
    """Something cannot be put into a key or an entry; the message says what."""
