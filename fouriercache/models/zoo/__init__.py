"""A zoo of small denoisers with random weights: one example for each transformer denoiser of diffusers.

It knows constructor arguments and the shapes of inputs, nothing of what a model computes. The parity tests and the zoo
table (`make zoo`) run on it.
"""

from fouriercache.models.zoo.example import Example
from fouriercache.models.zoo.registry import EXAMPLES, build

__all__ = ["EXAMPLES", "Example", "build"]
