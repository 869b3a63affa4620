"""What Fourier does for feature caching: every hypothesis of the field, measured against its honest control.

    make evidence        # or: PYTHONPATH=benchmarks python -m hypotheses

Each module `h1_...` to `h9_...` measures one hypothesis and returns `Finding`s; `__main__` runs them and writes
docs/evidence.md. Nothing on that page is typed by hand.
"""
