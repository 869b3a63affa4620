"""Captures on disk, so that a second process starts in seconds."""

from fouriercache.disk_cache.cache import CaptureCache

__all__ = ["CaptureCache"]
