"""Perceptual distances: images compared by what a frozen network sees in them.

One formula for all, that of LPIPS (Zhang et al. 2018): features of a few layers, each pixel's vector brought to unit
length, squared differences, a weighted sum over channels, the mean over pixels, the sum over layers. The kinds differ
in the network, and in whether the channels have learned weights:

none     always zero
encoder  the levels of the model's own VQVAE encoder: nothing to download; for stages that leave the encoder alone
vgg      VGG16 trained on ImageNet, all channels alike
lpips    VGG16 or AlexNet with the published weights of the channels: what evaluations report as LPIPS

Nothing here is part of a model: no parameter is trained or saved with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import UserError, first_line
from ..models import Model, RestoreVAR
from ..models.autoencoder import Encoder, Level

KINDS = ("none", "encoder", "vgg", "lpips")

Weights = dict[str, Tensor]
#: Image (B, 3, H, W) in [-1, 1] -> features (B, C, h, w), one for each layer looked at.
Features = Callable[[Tensor], list[Tensor]]


class Perceptual(Protocol):
    """Distance of two batches of images (B, 3, H, W) in [-1, 1]: a float32 scalar, 0 for equal images."""

    def __call__(self, a_B3HW: Tensor, b_B3HW: Tensor, /) -> Tensor: ...


def build_perceptual(kind: str, weights: Path | None, model: Model) -> Perceptual:
    """The distance `kind` (see above), on the device of `model`.

    `weights` is a state dict (safetensors, or what torch.save writes) or a folder of several that make one: of
    torchvision's VGG16 for "vgg"; for "lpips" of the channel weights of the lpips package and, in the same file or
    folder, of their network. A whole state dict of lpips.LPIPS is understood too. A network that is not given is
    taken from torch's cache of downloads, or downloaded into it by torchvision. "none" and "encoder" take nothing.

    Raises UserError, one line: unknown kind, missing or unreadable file, wrong keys, what to install.
    """
    if kind not in KINDS:
        raise UserError(f"unknown perceptual loss {kind!r}: one of {', '.join(KINDS)}")
    if kind in ("none", "encoder"):
        if weights is not None:
            raise UserError(f"{weights}: the perceptual loss {kind!r} takes no weights")
        if kind == "none":
            return _no_distance
        if not isinstance(model, RestoreVAR):
            raise UserError("the perceptual loss 'encoder' needs a model with a VQVAE; take vgg or lpips")
        return FeatureDistance(EncoderFeatures(model.vqvae.encoder))
    distance = _vgg(weights) if kind == "vgg" else _lpips(weights)
    return distance.to(next(model.parameters()).device)


def _vgg(weights: Path | None) -> FeatureDistance:
    source, state = _pretrained(VGG16) if weights is None else (weights, _read_weights(weights))
    return FeatureDistance(_backbone(VGG16, state, source))


def _lpips(weights: Path | None) -> FeatureDistance:
    if weights is None:
        raise UserError(
            "the perceptual loss 'lpips' needs a file with the channel weights: lpips/weights/v0.1/vgg.pth or alex.pth "
            "of the Python package lpips (pip install lpips)"
        )
    source, state = weights, _read_weights(weights)
    architecture, channel_weights = _channel_weights(state, source)
    if not any(key.startswith("features.") for key in state):
        source, state = _pretrained(architecture)
    return FeatureDistance(_backbone(architecture, state, source), channel_weights)


def _no_distance(a_B3HW: Tensor, b_B3HW: Tensor, /) -> Tensor:
    return torch.zeros((), device=a_B3HW.device)


class FeatureDistance:
    """LPIPS' formula on any features; without `channel_weights` all channels count alike.

    Not an nn.Module, so that no owner ever lists its network among its own parts. The network runs under the caller's
    autocast, the differences are taken in float32.
    """

    def __init__(self, features: Features, channel_weights: Sequence[Tensor] | None = None):
        self.features = features
        self.channel_weights = channel_weights  #: (C,) for each layer

    def to(self, device: torch.device) -> FeatureDistance:
        """Move what is ours (the encoder is the model's, and moves with it)."""
        if isinstance(self.features, Backbone):
            self.features.to(device)
        if self.channel_weights is not None:
            self.channel_weights = [weights.to(device) for weights in self.channel_weights]
        return self

    def __call__(self, a_B3HW: Tensor, b_B3HW: Tensor, /) -> Tensor:
        total = torch.zeros((), device=a_B3HW.device)
        for i, (a, b) in enumerate(zip(self.features(a_B3HW), self.features(b_B3HW), strict=True)):
            squares = (_unit(a) - _unit(b)).square()
            if self.channel_weights is not None:
                squares = squares * self.channel_weights[i].view(1, -1, 1, 1)
            total = total + squares.sum(1).mean()
        return total


def _unit(x_BChw: Tensor) -> Tensor:
    """Each pixel's vector at length 1.

    The published code adds 1e-10 to the length, where the gradient of a pixel without any feature is NaN.
    Under the root, as in torchmetrics, it is finite; lengths above 0.03 change by less than 1e-5 of themselves.
    """
    x = x_BChw.float()
    return x * (x.square().sum(1, keepdim=True) + 1e-8).rsqrt()


class EncoderFeatures:
    """Features of every level of a VQVAE encoder, before its downsampling, as a fixed function.

    The encoder is the model's, not a copy, with detached parameters: it moves with the model and gets no gradient.
    While it is being trained it is a poor judge: what it sees changes from step to step.
    """

    def __init__(self, encoder: Encoder):
        self.levels = _EncoderLevels(encoder)

    def __call__(self, image_B3HW: Tensor) -> list[Tensor]:
        fixed = {name: parameter.detach() for name, parameter in self.levels.named_parameters()}
        return functional_call(self.levels, fixed, (image_B3HW,))


class _EncoderLevels(nn.Module):
    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        encoder, found = self.encoder, []
        image = image_B3HW.to(encoder.conv_in.weight.dtype)
        h = encoder.conv_in(F.pixel_unshuffle(image, encoder.patch))
        for module in encoder.levels:
            level = cast(Level, module)
            h = level.run_blocks(h)
            found.append(h)
            if level.resample is not None:
                h = level.resample(h)
        return found


@dataclass(frozen=True)
class Architecture:
    """The convolutions of a classifier in torchvision's order, and where LPIPS looks at them."""

    name: str
    layers: Callable[[], list[nn.Module]]
    taps: tuple[int, ...]  #: indices of the ReLUs whose output is looked at
    widths: tuple[int, ...]  #: channels there
    file: str  #: torchvision's download, by its name in torch's cache
    weights: str  #: the enumeration in torchvision.models that downloads it


def _vgg16_layers() -> list[nn.Module]:
    """Simonyan and Zisserman 2015, configuration D, up to relu5_3."""
    layers: list[nn.Module] = []
    width_in = 3
    for widths in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        layers += [nn.MaxPool2d(2)] if layers else []
        for width in widths:
            layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.ReLU(inplace=True)]
            width_in = width
    return layers


def _alexnet_layers() -> list[nn.Module]:
    """Krizhevsky 2014 (one column), up to the fifth ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
    for width_in, width in pairwise((192, 384, 256, 256)):
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.ReLU(inplace=True)]
    return layers


VGG16 = Architecture(
    "VGG16", _vgg16_layers, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), "vgg16-397923af.pth", "VGG16_Weights"
)
ALEXNET = Architecture(
    "AlexNet",
    _alexnet_layers,
    (1, 4, 7, 9, 11),
    (64, 192, 384, 256, 256),
    "alexnet-owt-7be5be79.pth",
    "AlexNet_Weights",
)


class Backbone(nn.Module):
    """Image (B, 3, H, W) in [-1, 1] -> its features at the taps, finest first; frozen.

    Sides of 16 pixels or more for VGG16, 31 for AlexNet. Convolutions have no weights until a state dict is assigned:
    drawing some would only move the random numbers of the training.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.taps = architecture.taps
        with torch.device("meta"):
            self.features = nn.Sequential(*architecture.layers())
        # ImageNet's mean and deviation, rounded as LPIPS publishes them for images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        h, found = (image_B3HW - self.shift) / self.scale, []
        for i, layer in enumerate(self.features):
            h = layer(h)
            if i in self.taps:
                found.append(h)
        return found


def _backbone(architecture: Architecture, state: Weights, source: Path) -> Backbone:
    """The network with the weights in `state`, which come from `source`."""
    backbone = Backbone(architecture)
    expected = backbone.state_dict()
    for key, tensor in expected.items():
        if key not in state:
            raise UserError(f"{source}: not the weights of {architecture.name}, {key} is missing")
        if state[key].shape != tensor.shape:
            raise UserError(
                f"{source}: not the weights of {architecture.name}, {key} is {tuple(state[key].shape)} "
                f"instead of {tuple(tensor.shape)}"
            )
    backbone.load_state_dict({key: state[key].float() for key in expected}, assign=True)
    return backbone


def _pretrained(architecture: Architecture) -> tuple[Path, Weights]:
    """Weights trained on ImageNet, from torch's cache or by torchvision; and the file that holds them then."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / architecture.file
    return cached, _read_weights(cached) if cached.is_file() else _known(_download(architecture))


def _download(architecture: Architecture) -> Weights:
    """By torchvision, which keeps a copy in torch's cache."""
    remedy = f"or give a copy of https://download.pytorch.org/models/{architecture.file} as, or beside, its weights"
    try:
        from torchvision import models
    except Exception as error:  # missing, or built for another torch, which fails in many ways
        raise UserError(
            f"the weights of {architecture.name} are downloaded by torchvision, which cannot be imported "
            f"({first_line(error)}): pip install torchvision, {remedy}"
        ) from None
    try:
        return getattr(models, architecture.weights).IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network (URLError is an OSError), a full disk, a wrong hash
        raise UserError(
            f"the weights of {architecture.name} could not be downloaded ({first_line(error)}): try again, {remedy}"
        ) from None


def _channel_weights(state: Weights, source: Path) -> tuple[Architecture, list[Tensor]]:
    """LPIPS' linear layers as one vector per tap, and the network that they were trained for."""
    found = [state[key].float().flatten() for key in sorted(state) if key.startswith("lin")]
    for architecture in (VGG16, ALEXNET):
        if tuple(len(weights) for weights in found) == architecture.widths:
            return architecture, found
    raise UserError(f"{source}: no LPIPS channel weights of VGG16 or AlexNet in it (lin0.model.1.weight to lin4...)")


def _read_weights(path: Path) -> Weights:
    """Convolutions as "features.N.weight" and ".bias", LPIPS' linear layers as "linN"; other keys are left out."""
    if path.is_file():
        return _known(_load_state(path))
    files = sorted(p for p in path.glob("*") if p.suffix in (".safetensors", ".pth", ".pt"))
    if not files:
        raise UserError(f"{path}: " + ("no .safetensors or .pth file in it" if path.is_dir() else "no such file"))
    merged: Weights = {}
    for file in files:
        state = _known(_load_state(file))
        if twice := sorted(merged.keys() & state.keys()):
            raise UserError(f"{path}: {twice[0]} is in more than one file; keep those of one network")
        merged |= state
    return merged


def _known(state: Weights) -> Weights:
    known = {}
    for key, tensor in state.items():
        if match := re.fullmatch(r"(?:features|net\.slice\d)\.(\d+\.(?:weight|bias))", key):  # the latter: lpips.LPIPS
            known[f"features.{match[1]}"] = tensor
        elif match := re.fullmatch(r"(lin\d)\.model\.\d\.weight", key):
            known[match[1]] = tensor
    return known


def _load_state(path: Path) -> Weights:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(f"{path}: not readable as a state dict ({first_line(error)})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a state dict, which has a tensor for every name")
    return state
