"""Open-Sora 1.2's STDiT3, which no well-kept library carries: the denoiser and its sampling loop."""

from fouriercache.models.opensora.checkpoint import load_published
from fouriercache.models.opensora.sampling import KnownFrames, flow_timesteps, sample
from fouriercache.models.opensora.transformer import OpenSoraTransformer3DModel

__all__ = ["KnownFrames", "OpenSoraTransformer3DModel", "flow_timesteps", "load_published", "sample"]
