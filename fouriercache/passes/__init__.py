"""FX passes: program in, program out. One file, one rewrite."""

__all__: list[str] = []
