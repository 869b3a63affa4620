"""Running programs: requests and their sessions, backends, the drop-in module. Knows nothing of passes."""

__all__: list[str] = []
