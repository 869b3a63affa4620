"""Models the package ships and knows: the trained demo model and the judge of its images."""

__all__: list[str] = []
