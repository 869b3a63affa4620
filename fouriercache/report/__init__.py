"""The demo, its HTML report and plots, and what the commands print."""

__all__: list[str] = []
