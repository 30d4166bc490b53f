"""Perceptual distances, on networks of the published shapes with random weights."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from restorevar.errors import UserError
from restorevar.training import perceptual
from restorevar.training.perceptual import KINDS, build_perceptual

#: torchvision's indices of the convolutions, with (channels out, channels in, kernel, stride, padding).
ALEXNET = {0: (64, 3, 11, 4, 2), 3: (192, 64, 5, 1, 2), 6: (384, 192, 3, 1, 1), 8: (256, 384, 3, 1, 1)}
ALEXNET |= {10: (256, 256, 3, 1, 1)}
VGG16 = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
VGG16 |= {17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}
VGG16 = {index: (*widths, 3, 1, 1) for index, widths in VGG16.items()}
TAPS = {"alex": [0, 3, 6, 8, 10], "vgg": [2, 7, 14, 21, 28]}  #: the convolutions whose ReLU is looked at
NETWORKS = {"alex": ALEXNET, "vgg": VGG16}


def network_state(network):
    """A state dict as torchvision's, some of the classifier included."""
    generator = torch.Generator().manual_seed(0)
    state = {"classifier.1.bias": torch.zeros(3)}
    for index, (out, width, kernel, _, _) in NETWORKS[network].items():
        scale = (2 / (width * kernel**2)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(out, width, kernel, kernel, generator=generator) * scale
        state[f"features.{index}.bias"] = torch.randn(out, generator=generator) * 0.1
    return state


def channel_state(network):
    """A state dict as the lpips package's."""
    generator = torch.Generator().manual_seed(1)
    widths = [NETWORKS[network][index][0] for index in TAPS[network]]
    return {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for i, w in enumerate(widths)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights on disk: {alex,vgg}.safetensors with network and channels, channels_{alex,vgg}.pth, vgg16.pth."""
    root = tmp_path_factory.mktemp("weights")
    for network in NETWORKS:
        save_file(network_state(network) | channel_state(network), root / f"{network}.safetensors")
        torch.save(channel_state(network), root / f"channels_{network}.pth")
    torch.save(network_state("vgg"), root / "vgg16.pth")
    return root


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """A torch cache without downloads, and no torchvision."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(2)
    a = torch.rand(2, 3, 48, 32, generator=generator) * 2 - 1
    return a, (a + 0.2 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)


def distance(kind, files, model):
    weights = {"vgg": files / "vgg16.pth", "lpips": files / "alex.safetensors"}
    return build_perceptual(kind, weights.get(kind), model)


# What all kinds share


@pytest.mark.parametrize("kind", KINDS[1:])
def test_zero_for_equal_images_else_positive(kind, files, tiny, images):
    a, b = images
    judge = distance(kind, files, tiny)
    assert judge(a, a) == 0
    assert 0 < judge(a, 0.9 * a + 0.1 * b) < judge(a, b) < 100
    assert judge(a, b) == judge(b, a) and judge(a, b).shape == () and judge(a, b).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS[1:])
def test_gradient_leads_to_the_other_image(kind, files, tiny, images):
    a, b = images
    judge = distance(kind, files, tiny)
    made = b.clone().requires_grad_(True)
    before = judge(made, a)
    before.backward()
    assert made.grad.isfinite().all() and made.grad.abs().sum() > 0
    assert judge(made.detach() - 1e-2 * made.grad / made.grad.abs().max(), a) < before


@pytest.mark.parametrize("kind", KINDS)
def test_model_stays_as_it_is(kind, files, tiny, images):
    """Even where it is being trained: no gradient, no other values, no more keys."""
    a, b = images
    tiny.requires_grad_(True)
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    tiny.perceptual = judge = distance(kind, files, tiny)
    (judge(a, b.requires_grad_(True)) + 0 * b.sum()).backward()
    after = tiny.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None and p.requires_grad for p in tiny.parameters())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_gradient_of_a_flat_black_image(kind, files, tiny):
    """Pixels without any feature have a gradient too, of some size, not NaN."""
    flat = torch.full((1, 3, 48, 48), -1.0, requires_grad=True)
    distance(kind, files, tiny)(flat, torch.zeros(1, 3, 48, 48)).backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_under_autocast(kind, files, tiny, images):
    a, b = images
    judge = distance(kind, files, tiny)
    made = b.clone().requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = judge(made, a)
        assert judge(a, a) == 0
    rounded.backward()
    assert rounded.dtype == torch.float32 and made.grad.isfinite().all()
    torch.testing.assert_close(rounded.detach(), judge(b, a), rtol=0.05, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_random_numbers_of_the_training_stay(kind, files, tiny):
    state = torch.get_rng_state()
    distance(kind, files, tiny)
    assert torch.equal(torch.get_rng_state(), state)


def test_none_is_zero(tiny, images):
    assert build_perceptual("none", None, tiny)(*images) == 0


# Against a second computation


def activations(network, state, image):
    """Features by plain functions, straight from the table of convolutions."""
    h = (image - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(
        3, 1, 1
    )
    found = []
    for index, (_, _, _, stride, padding) in NETWORKS[network].items():
        if network == "vgg" and index in (5, 10, 17, 24):
            h = F.max_pool2d(h, 2, 2)
        if network == "alex" and index in (3, 6):
            h = F.max_pool2d(h, 3, 2)
        h = F.conv2d(h, state[f"features.{index}.weight"], state[f"features.{index}.bias"], stride, padding).relu()
        if index in TAPS[network]:
            found.append(h.numpy().astype(np.float64))
    return found


def by_hand(network, a, b, calibrated=True):
    """LPIPS of two batches in numpy, pixel by pixel."""
    state, channels = network_state(network), channel_state(network)
    total = 0.0
    for i, (x, y) in enumerate(zip(activations(network, state, a), activations(network, state, b), strict=True)):
        weights = channels[f"lin{i}.model.1.weight"].numpy().ravel() if calibrated else np.ones(x.shape[1])
        pixels = []
        for sample, row, column in np.ndindex(len(x), *x.shape[2:]):
            p, q = x[sample, :, row, column], y[sample, :, row, column]
            difference = p / (np.linalg.norm(p) + 1e-10) - q / (np.linalg.norm(q) + 1e-10)
            pixels.append((weights * difference**2).sum())
        total += np.mean(pixels)
    return total


@pytest.mark.parametrize("network", NETWORKS)
def test_lpips_by_hand(network, files, tiny, images):
    judge = build_perceptual("lpips", files / f"{network}.safetensors", tiny)
    assert judge(*images).item() == pytest.approx(by_hand(network, *images), rel=1e-4)


def test_vgg_by_hand(files, tiny, images):
    judge = build_perceptual("vgg", files / "vgg16.pth", tiny)
    assert judge(*images).item() == pytest.approx(by_hand("vgg", *images, calibrated=False), rel=1e-4)


def test_scaling_is_that_of_imagenet():
    """Images in [-1, 1] with LPIPS' constants are those in [0, 1] with torchvision's, to three decimals."""
    network = perceptual.Backbone(perceptual.VGG16)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(network.shift.flatten(), 2 * mean - 1, atol=1e-3, rtol=0)
    torch.testing.assert_close(network.scale.flatten(), 2 * deviation, atol=1e-3, rtol=0)


def test_encoder_levels(tiny, images):
    """One for each resolution; going on from the last one gives the latent."""
    encoder = tiny.vqvae.encoder
    found = perceptual.EncoderFeatures(encoder)(images[0])
    assert [tuple(f.shape[1:]) for f in found] == [(8, 24, 16), (8, 12, 8), (16, 6, 4)]
    latent = encoder.conv_out(F.silu(encoder.norm_out(encoder.middle(found[-1]))))
    torch.testing.assert_close(latent, encoder(images[0]))


def test_encoder_is_the_model_s_own(tiny, images):
    judge = build_perceptual("encoder", None, tiny)
    before = judge(*images)
    with torch.no_grad():
        tiny.vqvae.encoder.conv_in.weight.mul_(-0.3)
    assert judge(*images) != before


# Files


def test_folder_of_two_files(files, tmp_path, tiny, images, empty_cache):
    """The channels of the lpips package beside torchvision's network."""
    for name in ("vgg16.pth", "channels_vgg.pth"):
        (tmp_path / "both").mkdir(exist_ok=True)
        (tmp_path / "both" / name).symlink_to(files / name)
    both = build_perceptual("lpips", tmp_path / "both", tiny)
    assert both(*images) == build_perceptual("lpips", files / "vgg.safetensors", tiny)(*images)


def test_state_dict_of_the_lpips_package(files, tmp_path, tiny, images):
    """lpips.LPIPS names the same layers net.slice1.0, keeps its constants, and lists the linear layers twice."""
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    state = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)} | channel_state("alex")
    state |= {f"lins.{i}.model.1.weight": torch.zeros(1) for i in range(5)}
    for key, tensor in network_state("alex").items():
        if key.startswith("features."):
            _, index, kind = key.split(".")
            state[f"net.slice{slices[int(index)]}.{index}.{kind}"] = tensor
    torch.save(state, tmp_path / "lpips.pth")
    whole = build_perceptual("lpips", tmp_path / "lpips.pth", tiny)
    assert whole(*images) == build_perceptual("lpips", files / "alex.safetensors", tiny)(*images)


def test_half_precision_file(files, tmp_path, tiny, images):
    save_file({key: tensor.half() for key, tensor in network_state("vgg").items()}, tmp_path / "half.safetensors")
    half = build_perceptual("vgg", tmp_path / "half.safetensors", tiny)(*images)
    torch.testing.assert_close(half, build_perceptual("vgg", files / "vgg16.pth", tiny)(*images), rtol=1e-2, atol=0)


def test_network_from_the_cache_of_downloads(files, tiny, images, empty_cache):
    empty_cache.mkdir(parents=True)
    (empty_cache / "vgg16-397923af.pth").symlink_to(files / "vgg16.pth")
    cached = build_perceptual("vgg", None, tiny)
    assert cached(*images) == build_perceptual("vgg", files / "vgg16.pth", tiny)(*images)


class FakeTorchvision:
    """What is used of torchvision.models: the weights' enumerations, which download."""

    def __init__(self, download):
        weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(get_state_dict=download))
        self.models = SimpleNamespace(VGG16_Weights=weights, AlexNet_Weights=weights)


def test_network_downloaded_by_torchvision(files, tiny, images, empty_cache, monkeypatch):
    asked = []
    fake = FakeTorchvision(lambda **options: asked.append(options) or network_state("alex"))
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    downloaded = build_perceptual("lpips", files / "channels_alex.pth", tiny)
    assert asked == [{"progress": False, "check_hash": True}]
    assert downloaded(*images) == build_perceptual("lpips", files / "alex.safetensors", tiny)(*images)


# What the user can mend


def complaint(kind, weights, model):
    with pytest.raises(UserError) as caught:
        build_perceptual(kind, weights, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_kind(tiny):
    assert "'dists'" in complaint("dists", None, tiny) and "lpips" in complaint("dists", None, tiny)


@pytest.mark.parametrize("kind", ["none", "encoder"])
def test_weights_that_nothing_reads(kind, files, tiny):
    assert "takes no weights" in complaint(kind, files / "vgg16.pth", tiny)


@pytest.mark.parametrize("kind", ["vgg", "lpips"])
def test_missing_and_damaged_files(kind, tmp_path, tiny):
    assert complaint(kind, tmp_path / "no.pth", tiny) == f"{tmp_path / 'no.pth'}: no such file"
    assert "no .safetensors or .pth file in it" in complaint(kind, tmp_path, tiny)
    for name in ("damaged.pth", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"not weights\nat all")
        assert complaint(kind, tmp_path / name, tiny).startswith(f"{tmp_path / name}: not readable as a state dict")
    torch.save({"state_dict": {"features.0.weight": torch.zeros(1)}}, tmp_path / "nested.pth")
    assert "not a state dict" in complaint(kind, tmp_path / "nested.pth", tiny)


def test_a_file_that_runs_code_is_refused(tmp_path, tiny):
    torch.save({"features.0.weight": SimpleNamespace()}, tmp_path / "object.pth")
    assert "not readable as a state dict" in complaint("vgg", tmp_path / "object.pth", tiny)


def test_weights_of_another_network(files, tmp_path, tiny):
    assert "features.0.weight is (64, 3, 11, 11)" in complaint("vgg", files / "alex.safetensors", tiny)
    assert "features.0.weight is missing" in complaint("vgg", files / "channels_vgg.pth", tiny)
    assert "no LPIPS channel weights" in complaint("lpips", files / "vgg16.pth", tiny)
    save_file(network_state("vgg") | channel_state("alex"), tmp_path / "mixed.safetensors")
    assert "not the weights of AlexNet" in complaint("lpips", tmp_path / "mixed.safetensors", tiny)
    assert "in more than one file" in complaint("lpips", files, tiny)


def test_lpips_without_channel_weights_names_where_they_are(tiny):
    assert "pip install lpips" in complaint("lpips", None, tiny)


@pytest.mark.parametrize("kind, weights, file", [
    ("vgg", None, "vgg16-397923af.pth"),
    ("lpips", "channels_vgg.pth", "vgg16-397923af.pth"),
    ("lpips", "channels_alex.pth", "alexnet-owt-7be5be79.pth"),
])  # fmt: skip
def test_missing_torchvision_names_both_remedies(kind, weights, file, files, tiny, empty_cache):
    message = complaint(kind, weights and files / weights, tiny)
    assert "pip install torchvision" in message and file in message


def test_torchvision_of_another_torch(tiny, empty_cache, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(sys.modules, "torchvision", Broken())
    message = complaint("vgg", None, tiny)
    assert "nms does not exist" in message and "pip install torchvision" in message


def test_download_that_fails(tiny, empty_cache, monkeypatch):
    def offline(**options):
        raise OSError("no route to host\nat all")

    monkeypatch.setitem(sys.modules, "torchvision", FakeTorchvision(offline))
    assert "(no route to host)" in complaint("vgg", None, tiny)
