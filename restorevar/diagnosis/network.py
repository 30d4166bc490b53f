"""The head: measures of the blocks and of the whole photo -> a strength for each degradation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .measures import BLOCK_MEASURES, GRID, WHOLE_MEASURES
from .report import NAMES

#: Measures are kept within so many standard deviations: what no training has seen says nothing more.
_FAR = 4.0


class DiagnosisNetwork(nn.Module):
    """The same small network looks at each block; what it finds is pooled over the photo and judged with the whole.

    Pooled by mean, most and least: "everywhere", "somewhere", "not anywhere without".
    """

    block_mean: Tensor
    block_spread: Tensor
    whole_mean: Tensor
    whole_spread: Tensor

    def __init__(self, width: int = 48, dropout: float = 0.0):
        super().__init__()
        self.config = {"width": width}
        self.register_buffer("block_mean", torch.zeros(BLOCK_MEASURES))
        self.register_buffer("block_spread", torch.ones(BLOCK_MEASURES))
        self.register_buffer("whole_mean", torch.zeros(WHOLE_MEASURES))
        self.register_buffer("whole_spread", torch.ones(WHOLE_MEASURES))
        self.look = nn.Sequential(
            nn.Linear(BLOCK_MEASURES, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.judge = nn.Sequential(
            nn.Linear(3 * width + WHOLE_MEASURES, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, len(NAMES))
        )

    def fit_scale(self, blocks_BGM: Tensor, whole_BM: Tensor) -> None:
        """Remembers mean and spread of the measures, to see them alike."""
        flat_NM = blocks_BGM.flatten(0, 1)
        self.block_mean.copy_(flat_NM.mean(0))
        self.block_spread.copy_(flat_NM.std(0) + 1e-4)
        self.whole_mean.copy_(whole_BM.mean(0))
        self.whole_spread.copy_(whole_BM.std(0) + 1e-4)

    def forward(self, blocks_BGM: Tensor, whole_BM: Tensor) -> Tensor:
        """(B, GRID * GRID, BLOCK_MEASURES), (B, WHOLE_MEASURES) -> logits of the strengths (B, 5)."""
        assert blocks_BGM.shape[1] == GRID * GRID
        blocks = ((blocks_BGM - self.block_mean) / self.block_spread).clamp(-_FAR, _FAR)
        whole = ((whole_BM - self.whole_mean) / self.whole_spread).clamp(-_FAR, _FAR)
        seen_BGM = self.look(blocks)
        pooled = torch.cat([seen_BGM.mean(1), seen_BGM.amax(1), seen_BGM.amin(1), whole], dim=1)
        return self.judge(pooled)
