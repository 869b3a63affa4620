"""Transformers as users write them, with names and forms of their own. No pass was read to write them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fouriercache as fc

DIM, HEADS = 32, 4


class Norm(nn.Module):
    """RMSNorm by hand."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        scaled = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)
        return scaled.type_as(x) * self.weight


class SwiGLU(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate_up, self.down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class SelfMix(nn.Module):
    """Attention with one projection for queries, keys and values, and norms on the first two."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q_norm, self.k_norm = Norm(width // heads), Norm(width // heads)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, c))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.pre_mix, self.mix = Norm(width), SelfMix(width, heads)
        self.pre_feed, self.feed = Norm(width), SwiGLU(width, 2 * width)
        self.modulate = nn.Linear(width, 6 * width)

    def forward(self, tokens, cond):
        a, b, g1, c, d, g2 = self.modulate(F.silu(cond)).unsqueeze(1).chunk(6, dim=-1)
        tokens = tokens + g1 * self.mix(self.pre_mix(tokens) * (1 + a) + b)
        return tokens + g2 * self.feed(self.pre_feed(tokens) * (1 + c) + d)


def waves(t, width):
    freqs = torch.exp(-math.log(10000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t.float()[:, None] * freqs
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class RegisterDenoiser(nn.Module):
    """Patches by unfold, four register tokens in front, layers in a plain list of modules."""

    def __init__(self, layers=3):
        super().__init__()
        self.embed, self.head = nn.Linear(12, DIM), nn.Linear(DIM, 12)
        self.registers = nn.Parameter(torch.randn(1, 4, DIM))
        self.positions = nn.Parameter(torch.randn(1, 16, DIM))
        self.time_mlp = nn.Sequential(nn.Linear(DIM, DIM), nn.SiLU(), nn.Linear(DIM, DIM))
        self.label = nn.Embedding(11, DIM)
        self.trunk = nn.ModuleList(Layer(DIM, HEADS) for _ in range(layers))
        self.last = Norm(DIM)

    def forward(self, x, t, y):
        cond = self.time_mlp(waves(t, DIM)) + self.label(y)
        tokens = self.embed(F.unfold(x, 2, stride=2).transpose(1, 2)) + self.positions
        tokens = torch.cat([self.registers.expand(len(x), -1, -1), tokens], dim=1)
        for layer in self.trunk:
            tokens = layer(tokens, cond)
        tokens = self.head(self.last(tokens[:, 4:]))
        return F.fold(tokens.transpose(1, 2), x.shape[-2:], 2, stride=2)


class NamedLayers(nn.Module):
    """No list at all: every layer is an attribute with a name of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, DIM, 2, stride=2)
        self.entry, self.middle, self.exit = Layer(DIM, HEADS), Layer(DIM, HEADS), Layer(DIM, HEADS)
        self.unstem = nn.ConvTranspose2d(DIM, 3, 2, stride=2)
        self.clock = nn.Linear(DIM, DIM)

    def forward(self, image, time):
        cond = self.clock(waves(time, DIM))
        tokens = self.stem(image)
        side = tokens.shape[-1]
        tokens = tokens.flatten(2).mT
        tokens = self.exit(self.middle(self.entry(tokens, cond), cond), cond)
        return {"velocity": self.unstem(tokens.mT.unflatten(2, (-1, side)))}


class Parallel(nn.Module):
    """Attention and MLP side by side from one projection, softmax by hand, then attention to a text."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inward, self.outward = nn.Linear(width, 7 * width), nn.Linear(5 * width, width)
        self.read = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, state, text):
        q, k, v, hidden = self.inward(self.norm(state)).split([DIM, DIM, DIM, 4 * DIM], dim=-1)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(DIM)).softmax(dim=-1)
        state = self.outward(torch.cat([weights @ v, F.gelu(hidden)], dim=-1)) + state
        return state + self.read(self.norm2(state), text, text, need_weights=False)[0]


class TextDenoiser(nn.Module):
    """The timestep is one more token; the latents are packed; keyword-only arguments."""

    def __init__(self):
        super().__init__()
        self.into, self.out_of = nn.Linear(4, DIM), nn.Linear(DIM, 4)
        self.text_in, self.sigma_in = nn.Linear(10, DIM), nn.Linear(1, DIM)
        self.body = nn.Sequential()
        for index in range(2):
            self.body.add_module(f"{index}", Parallel(DIM))

    def forward(self, latents, *, sigma, prompt_embeds):
        state = torch.cat([self.sigma_in(sigma[:, None, None]), self.into(latents)], dim=1)
        text = self.text_in(prompt_embeds)
        for part in self.body:
            state = part(state, text)
        return (self.out_of(state)[:, 1:],)


def picture_call(timestep):
    return {"x": torch.randn(2, 3, 8, 8), "t": torch.full((2,), timestep), "y": torch.tensor([1, 10])}


def named_call(timestep):
    return {"image": torch.randn(2, 3, 8, 8), "time": torch.full((2,), timestep)}


def text_call(timestep):
    generator = torch.Generator().manual_seed(5)
    prompt = torch.randn(2, 6, 10, generator=generator)
    return {"latents": torch.randn(2, 16, 4), "sigma": torch.full((2,), timestep), "prompt_embeds": prompt}


MODELS = {
    "registers": (RegisterDenoiser, picture_call, {"attention": 3, "mlp": 3}),
    "names": (NamedLayers, named_call, {"attention": 3, "mlp": 3}),
    "text": (TextDenoiser, text_call, {"attention": 4}),
}


def tensor_of(output):
    return torch.utils._pytree.tree_leaves(output)[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_a_user_is_cached_at_all_its_branches(name):
    kind, call, expected = MODELS[name]
    torch.manual_seed(0)
    model = kind().eval()
    fast = fc.optimize(model, fc.TaylorSeer(interval=2, order=1), num_steps=4)
    with torch.no_grad():
        for step, timestep in enumerate((0.9, 0.7, 0.5, 0.3)):
            inputs = call(timestep)
            have, want = tensor_of(fast(**inputs)), tensor_of(model(**inputs))
            if step in fast.session.computed_steps[0]:
                assert torch.allclose(have, want, rtol=0, atol=1e-6 * float(want.abs().amax()))
            assert have.isfinite().all()
    found = [site.kind for site in fast.report.found["branch"]]
    assert {kind: found.count(kind) for kind in set(found)} == expected
    assert len(fast.report.found["stack"]) == 1
    assert fast.session.computed_steps[0] == (0, 1, 3)
    assert fast.report.modes["reuse"].flops < 0.3 * fast.report.modes["compute"].flops
