"""DFPIR (Tian et al., CVPR 2025) through a loop of ours over its network: its test script knows its own data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .drivers import DrivenPeer
from .peer import Facts


class DFPIR(DrivenPeer):
    """Its test script goes on with random weights where the file is not found, drops keys that do not match, and puts
    the PSNR into the names of its outputs. The loop does none of this.
    """

    name = "dfpir"
    facts = Facts(
        title="DFPIR",
        source="https://github.com/TxpHome/DFPIR",
        commit="b9ba223d655d2c174507c83527ba3958dfb90f7d",
        licence="none",
        weights="the 5D weights from the Drive folder of its README, given with --weights; CLIP ViT-B/32 is fetched "
        "at the first run",
        needs="Python 3.11, PyTorch 2.1.1, OpenAI CLIP, einops; through our loop also on CPU",
        notes=("knows no snow: neither does its row in table 1",),
    )
    files = ("net/model.py", "test_5D_DFPIR.py")
    #: Word for word those it was trained with: they are labels rather than sentences.
    texts: ClassVar[Mapping[str, str] | None] = {
        "haze": "Hazy degradation with normal haze",
        "rain": "Rain degradation with rain lines",
        "lowlight": "Lowlight degradation",
        "blur": "Blur degradation with motion blur",
        "noise": "Gaussian noise with a standard deviation of 25",
    }
