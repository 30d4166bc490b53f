"""Residual diffusion head, HART's answer to what the LRT does: a comparison of the paper's (table 4), not the method.

HART (Tang et al. 2024, arXiv 2410.10812) predicts the residual that discrete tokens leave over by diffusion, with the
small network of MAR (Li et al. 2024, arXiv 2406.11838): each cell of the latent is denoised on its own, conditioned on
the transformer's hidden state of that cell.

Three things differ from HART. The network sees the whole discrete latent of the cell, where HART adds the embedded code
of the last scale. It predicts the noise only, no variance, which DDIM (Song et al. 2021) has no use for. And the
residual is divided by its measured size, where HART has the constant 0.6 of its own VQVAE.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RefinerConfig

#: Times of the diffusion run from 0, nearly clean, to 999, nearly noise.
TIMES = 1000
#: No cell of a residual of unit size lies further out; bounds what early, uncertain steps may guess.
LARGEST = 4.0


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of signal and noise at a time, squares adding up to one: the cosine schedule of IDDPM (2102.09672)."""
    angle = ((time.float() + 1) / TIMES + 0.008) / 1.008 * (math.pi / 2)
    return angle.cos(), angle.sin()


def time_embedding(time: Tensor, width: int = 256) -> Tensor:
    """(...) -> (..., width): cosines and sines of geometrically spaced frequencies, float32."""
    frequencies = 10000.0 ** (-torch.arange(width // 2, device=time.device) / (width // 2))
    angles = time.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def fixed_noise(cells: int, channels: int, device: torch.device) -> Tensor:
    """(1, M, C), the same at every call and for every image of a batch: the same photo gives the same result."""
    return torch.randn(1, cells, channels, generator=torch.Generator().manual_seed(0)).to(device)


class DiffusionBlock(nn.Module):
    """Residual MLP of one cell; shift, scale and gate come from time and condition (adaLN). Starts as identity."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x_BMD: Tensor, guide_BMD: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(F.silu(guide_BMD)).chunk(3, dim=-1)
        return x_BMD + gate * self.mlp(self.norm(x_BMD) * (1 + scale) + shift)


class DiffusionRefiner(nn.Module):
    """f_refined = f_hat + a residual sampled in a few deterministic (DDIM) steps, from fixed noise.

    The residual's root mean square is measured during training, an average over all batches so far, and stored with
    the weights: it hardly moves after the first hundred batches, and needs no pass over the data before.
    It starts at zero, so that a new refiner changes nothing.
    """

    residual_scale: Tensor  #: root mean square of target - f_hat
    batches: Tensor  #: how many batches it was measured on

    def __init__(self, config: RefinerConfig, latent_channels: int, hidden_width: int):
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("residual_scale", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.norm_hidden = nn.LayerNorm(hidden_width)
        self.hidden_embed = nn.Linear(hidden_width, width)
        self.latent_embed = nn.Linear(latent_channels, width, bias=False)
        self.time_embed = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.proj_in = nn.Linear(latent_channels, width)
        self.blocks = nn.ModuleList(DiffusionBlock(width) for _ in range(config.depth))
        self.modulation_out = nn.Linear(width, 2 * width)
        self.proj_out = nn.Linear(width, latent_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """MAR's initialisation: modulations and output start at zero."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if "modulation" in name or name == "proj_out":
                    nn.init.zeros_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for i in (0, 2):
            nn.init.normal_(self.time_embed[i].weight, std=0.02)  # type: ignore[arg-type]

    @torch.no_grad()
    def forward(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor) -> Tensor:
        """f_hat_BCHW: discrete latent; hidden_BLD: last block's states, the last scale is read. (B, C, H, W), float32.

        Without gradients: the head learns from `loss` alone.
        """
        f_hat_BMC = _cells(f_hat_BCHW)
        condition_BMD = self._embed_condition(f_hat_BMC, hidden_BLD)
        x_BMC = fixed_noise(f_hat_BMC.shape[1], f_hat_BMC.shape[2], f_hat_BCHW.device).expand_as(f_hat_BMC)
        times = self._times(f_hat_BCHW.device)
        for i, time in enumerate(times):
            signal, noise = signal_and_noise(time)
            noise_BMC = self._predict_noise(x_BMC, time, condition_BMD)
            x_BMC = ((x_BMC - noise * noise_BMC) / signal).clamp(-LARGEST, LARGEST)
            if i + 1 < len(times):
                signal, noise = signal_and_noise(times[i + 1])
                x_BMC = signal * x_BMC + noise * noise_BMC
        residual_BMC = x_BMC * self.residual_scale.float()
        return f_hat_BCHW.float() + residual_BMC.transpose(1, 2).reshape(f_hat_BCHW.shape)

    def loss(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor, target_BCHW: Tensor) -> Tensor:
        """Mean square error of the predicted noise, a random time for each cell. Measures the residual in training."""
        residual_BMC = _cells(target_BCHW.float() - f_hat_BCHW.float())
        if self.training:
            self._measure(residual_BMC)
        condition_BMD = self._embed_condition(_cells(f_hat_BCHW), hidden_BLD)
        noise_BMC = torch.randn_like(residual_BMC)
        time_BM = torch.randint(TIMES, residual_BMC.shape[:2], device=residual_BMC.device)
        signal_BM, weight_BM = signal_and_noise(time_BM)
        x_BMC = signal_BM[..., None] * residual_BMC / self.residual_scale.float().clamp_min(1e-6)
        x_BMC = x_BMC + weight_BM[..., None] * noise_BMC
        return F.mse_loss(self._predict_noise(x_BMC, time_BM, condition_BMD), noise_BMC)

    @torch.no_grad()
    def _measure(self, residual_BMC: Tensor) -> None:
        self.batches += 1
        mean = torch.lerp(self.residual_scale.square(), residual_BMC.square().mean(), 1 / self.batches)
        self.residual_scale.copy_(mean.sqrt())

    def _times(self, device: torch.device) -> Tensor:
        """Middles of equal parts of the schedule, noisiest first: (steps,).

        At its very end no signal is left to divide by, and close to it any error of the prediction is blown up.
        """
        steps = self.config.steps
        return (torch.arange(steps, 0, -1, device=device) - 0.5) * TIMES / steps - 0.5

    def _embed_condition(self, f_hat_BMC: Tensor, hidden_BLD: Tensor) -> Tensor:
        """Hidden state of the last scale and discrete latent of each cell: (B, M, D)."""
        dtype = self.proj_in.weight.dtype
        hidden_BMD = hidden_BLD[:, -f_hat_BMC.shape[1] :].to(dtype)
        return self.hidden_embed(self.norm_hidden(hidden_BMD)) + self.latent_embed(f_hat_BMC.to(dtype))

    def _predict_noise(self, x_BMC: Tensor, time: Tensor, condition_BMD: Tensor) -> Tensor:
        """`time` is one for all or (B, M). Returns (B, M, C), float32."""
        dtype = self.proj_in.weight.dtype
        guide_BMD = condition_BMD + self.time_embed(time_embedding(time).to(dtype))
        x_BMD = self.proj_in(x_BMC.to(dtype))
        for block in self.blocks:
            x_BMD = block(x_BMD, guide_BMD)
        shift, scale = self.modulation_out(F.silu(guide_BMD)).chunk(2, dim=-1)
        x_BMD = F.layer_norm(x_BMD, x_BMD.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return self.proj_out(x_BMD).float()


def _cells(x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, M, C)."""
    return x_BCHW.flatten(2).transpose(1, 2)
