"""The discriminator, its losses, and what the generator hears of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restorevar.training.discriminator import (
    Adversary,
    PatchDiscriminator,
    adaptive_weight,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    r1_penalty,
)

NORMS = ["group", "spectral", "none"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Painter(nn.Module):
    """A generator of two layers: image -> image."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, image):
        return self.last(F.silu(self.first(image))).float()


def adversary(norm="group", **options):
    return Adversary(PatchDiscriminator(width=8, norm=norm), **options)


def heard(adversary, step=0, real=None):
    """One generator step of a fresh painter: (painter, reconstruction loss, parts)."""
    painter = Painter()
    real = torch.rand(2, 3, 32, 40) * 2 - 1 if real is None else real
    fake = painter(real)
    reconstruction = F.l1_loss(fake, real)
    return painter, reconstruction, adversary.generator_loss(real, fake, reconstruction, painter.last.weight, step)


# The network


def test_layers_of_vqgan():
    shapes = [tuple(p.shape) for p in PatchDiscriminator().parameters() if p.ndim == 4]
    assert shapes == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4)]


@pytest.mark.parametrize("norm", NORMS)
def test_logit_sees_a_patch_of_70_pixels(norm):
    """Without a norm over the image a logit depends on its patch alone."""
    discriminator = PatchDiscriminator(width=4, norm=norm).eval()
    image = torch.randn(1, 3, 160, 160, requires_grad=True)
    logits = discriminator(image)
    assert logits.shape == (1, 1, 18, 18)
    (gradient,) = torch.autograd.grad(logits[0, 0, 9, 9], image)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows[-1] - rows[0] + 1 == 70) if norm != "group" else len(rows) == 160


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_any_size_from_the_minimum(norm, n_layers):
    discriminator = PatchDiscriminator(width=6, n_layers=n_layers, norm=norm)
    side = discriminator.minimum
    assert discriminator(torch.zeros(1, 3, side, side)).shape == (1, 1, 1, 1)
    assert discriminator(torch.zeros(2, 3, side + 5, 2 * side + 3)).shape[:2] == (2, 1)
    with pytest.raises(ValueError, match=f"{side} pixels"):
        discriminator(torch.zeros(1, 3, side - 1, side))


def test_features():
    discriminator = PatchDiscriminator(width=8)
    image = torch.randn(2, 3, 32, 32)
    logits, features = discriminator(image, features=True)
    assert torch.equal(logits, discriminator(image))
    assert [tuple(f.shape[1:]) for f in features] == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 3, 3)]


@pytest.mark.parametrize("norm", NORMS)
def test_an_image_is_judged_by_itself(norm):
    discriminator = PatchDiscriminator(width=8, norm=norm).eval()
    images = torch.randn(3, 3, 32, 32) * torch.tensor([0.1, 1, 5]).view(3, 1, 1, 1)
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone, rtol=1e-4, atol=1e-5)


def test_spectral_weights_have_norm_one():
    discriminator = PatchDiscriminator(width=8, norm="spectral")
    for _ in range(30):  # power iterations
        discriminator(torch.zeros(1, 3, 24, 24))
    norms = [torch.linalg.matrix_norm(m.weight.flatten(1), 2) for m in discriminator.modules() if hasattr(m, "stride")]
    assert len(norms) == 5
    torch.testing.assert_close(torch.stack(norms), torch.ones(5), rtol=1e-2, atol=0)


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"width": 0}, {"n_layers": 0}])
def test_impossible_options(options):
    with pytest.raises(ValueError, match=r"norm is one of|at least one"):
        PatchDiscriminator(**options)


# Losses


def test_hinge_losses():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert hinge_discriminator_loss(real, fake) == pytest.approx(0.5 * ((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3))
    assert hinge_generator_loss(fake) == pytest.approx(2 / 3)
    assert hinge_discriminator_loss(real.bfloat16(), fake.bfloat16()).dtype == torch.float32


def test_feature_matching():
    real = [torch.zeros(2, 4, 3, 3, requires_grad=True), torch.ones(2, 8, 2, 2)]
    fake = [torch.full((2, 4, 3, 3), 0.5, requires_grad=True), torch.full((2, 8, 2, 2), 4.0)]
    loss = feature_matching_loss(real, fake)
    assert loss.item() == pytest.approx((0.5 + 3) / 2)
    loss.backward()
    assert real[0].grad is None and fake[0].grad is not None
    with pytest.raises(ValueError):
        feature_matching_loss(real, fake[:1])


def test_r1_of_a_linear_judge():
    """D(x) = w x has gradient w everywhere; the mean over patches divides it by their number."""
    judge = nn.Conv2d(3, 1, 1, bias=False)
    penalty = r1_penalty(judge, torch.randn(4, 3, 5, 5))
    torch.testing.assert_close(penalty, judge.weight.square().sum() / 25 / 2)
    penalty.backward()
    torch.testing.assert_close(judge.weight.grad, judge.weight.detach() / 25)


# The adaptive weight


def test_adaptive_weight_is_the_ratio_of_gradient_norms():
    """By hand: the gradients of two copies, each trained on one of the losses."""
    image, target, judge = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), nn.Conv2d(3, 1, 3)
    painter = Painter()
    made = painter(image)
    weight = adaptive_weight(F.l1_loss(made, target), hinge_generator_loss(judge(made)), painter.last.weight)
    norms = []
    for loss in (lambda out: F.l1_loss(out, target), lambda out: -judge(out).mean()):
        painter.zero_grad()
        loss(painter(image)).backward()
        norms.append(painter.last.weight.grad.square().sum().sqrt())
    torch.testing.assert_close(weight, norms[0] / (norms[1] + 1e-6))
    assert not weight.requires_grad and weight.ndim == 0


@pytest.mark.parametrize("reconstruction, generator, expected", [(0.0, 2.0, 0.0), (3.0, 0.0, 100.0), (0.0, 0.0, 0.0)])
def test_adaptive_weight_of_zero_gradients(reconstruction, generator, expected):
    layer = torch.ones(1, requires_grad=True)
    assert adaptive_weight(reconstruction * layer.sum(), generator * layer.sum(), layer, limit=100) == expected


def test_adaptive_weight_of_losses_that_do_not_reach_the_layer():
    layer, other = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    assert adaptive_weight(other.sum(), layer.sum(), layer) == 0
    assert adaptive_weight(layer.sum().detach(), layer.sum(), layer) == 0


def test_adaptive_weight_under_autocast():
    painter, image, judge = Painter(), torch.randn(2, 3, 16, 16), nn.Conv2d(3, 1, 3)

    def weight():
        made = painter(image)
        return adaptive_weight(F.l1_loss(made, image), hinge_generator_loss(judge(made)), painter.last.weight)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = weight()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, weight(), rtol=0.05, atol=0)


# The adversary


def test_generator_hears_nothing_before_the_start():
    painter, reconstruction, parts = heard(adversary(start_step=10, feature_weight=1.0), step=9)
    assert all(value == 0 for value in parts.values())
    (reconstruction + parts["adversarial"]).backward()
    assert painter.last.weight.grad is not None
    _, _, later = heard(adversary(start_step=10, feature_weight=1.0), step=10)
    assert parts.keys() == later.keys() and all(value != 0 for value in later.values())


@pytest.mark.parametrize("feature_weight", [0.0, 10.0])
@pytest.mark.parametrize("norm", NORMS)
def test_generator_loss_leaves_the_discriminator_alone(norm, feature_weight):
    judge = adversary(norm, feature_weight=feature_weight)
    before = {name: p.detach().clone() for name, p in judge.discriminator.named_parameters()}
    painter, reconstruction, parts = heard(judge)
    (reconstruction + parts["adversarial"]).backward()
    for name, parameter in judge.discriminator.named_parameters():
        assert parameter.grad is None and parameter.requires_grad and torch.equal(parameter, before[name])
    assert all(p.grad.abs().sum() > 0 for p in painter.parameters())


def test_adversarial_total():
    judge = adversary(weight=0.5, feature_weight=10.0)
    _, _, parts = heard(judge)
    total = 0.5 * parts["adaptive_weight"] * (parts["generator"] + 10 * parts["features"])
    torch.testing.assert_close(parts["adversarial"].detach(), total)
    assert [name for name, value in parts.items() if value.requires_grad] == ["adversarial"]
    judge.adaptive = False
    assert heard(judge)[2]["adaptive_weight"] == 1


def test_adaptive_share_of_the_gradient():
    """At the last layer the discriminator's say is `weight` times as long as the reconstruction's."""
    painter, reconstruction, parts = heard(adversary(weight=0.25, feature_weight=3.0))
    norms = [
        torch.autograd.grad(loss, painter.last.weight, retain_graph=True)[0].norm()
        for loss in (parts["adversarial"], reconstruction)
    ]
    torch.testing.assert_close(norms[0], 0.25 * norms[1], rtol=1e-3, atol=0)


def test_features_match_for_equal_images():
    judge = adversary(feature_weight=1.0, adaptive=False)
    judge.discriminator.eval()
    image = torch.randn(2, 3, 32, 32, requires_grad=True)
    assert judge.generator_loss(image.detach(), image, image.sum(), image, 0)["features"] == 0


def test_validation_without_gradients():
    with torch.no_grad():
        parts = heard(adversary())[2]
    assert parts["adversarial"] == 0 and parts["generator"] != 0


@pytest.mark.parametrize("norm", NORMS)
def test_discriminator_loss_reaches_the_discriminator_only(norm):
    judge = adversary(norm)
    painter = Painter()
    real = torch.randn(2, 3, 32, 32, requires_grad=True)
    judge.discriminator_loss(real, painter(real), 0).backward()
    assert real.grad is None and all(p.grad is None for p in painter.parameters())
    assert all(p.grad is not None for p in judge.discriminator.parameters())


def test_r1_comes_every_so_many_steps():
    plain, penalised = adversary(), adversary(r1_weight=2.0, r1_every=4)
    penalised.discriminator = plain.discriminator
    real, fake = torch.randn(2, 3, 32, 32), torch.randn(3, 3, 32, 32)
    expected = plain.discriminator_loss(real, fake, 0)
    assert penalised.discriminator_loss(real, fake, 3) == expected
    extra = penalised.discriminator_loss(real, fake, 8) - expected
    torch.testing.assert_close(extra, 8 * r1_penalty(plain.discriminator, real), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_under_autocast(norm):
    """Both steps with every part, in bfloat16: float32 losses, finite gradients in float32."""
    judge = adversary(norm, feature_weight=10.0, r1_weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        painter, reconstruction, parts = heard(judge)
        own = judge.discriminator_loss(torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), 0)
    (reconstruction + parts["adversarial"]).backward()
    own.backward()
    assert all(value.dtype == torch.float32 for value in [*parts.values(), own])
    for parameter in [*painter.parameters(), *judge.discriminator.parameters()]:
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all()


def test_spectral_weights_are_made_outside_autocast():
    """On GPUs autocast mixes types in torch's power iteration; here one can only see that it is off there."""
    discriminator = PatchDiscriminator(width=8, norm="spectral")
    states = []
    for module in discriminator.modules():
        if type(module).__name__ == "_SpectralNorm":
            module.register_forward_hook(lambda *_: states.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        discriminator(torch.zeros(1, 3, 24, 24))
    assert states == [False] * 5


def photos_like(count, smooth):
    noise = torch.randn(count, 3, 32, 32)
    return F.avg_pool2d(noise, 5, 1, 2, count_include_pad=False) * 5 if smooth else noise


@pytest.mark.parametrize("norm", NORMS)
def test_learns_to_tell_two_distributions_apart(norm):
    """Smooth against rough images of the same variance, and the generator is told which way is real."""
    judge = adversary(norm)
    optimizer = torch.optim.AdamW(judge.discriminator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    for step in range(60):
        optimizer.zero_grad()
        judge.discriminator_loss(photos_like(8, smooth=True), photos_like(8, smooth=False), step).backward()
        optimizer.step()
    judge.discriminator.eval()
    with torch.no_grad():
        real, fake = (judge.discriminator(photos_like(16, smooth)).mean((1, 2, 3)) for smooth in (True, False))
    assert real.min() > fake.max()
    fake = photos_like(4, smooth=False).requires_grad_(True)
    judge.adaptive = False
    parts = judge.generator_loss(fake, fake, fake.sum(), fake, 0)
    (gradient,) = torch.autograd.grad(parts["adversarial"], fake)
    nearer = fake.detach() - 0.05 * gradient.sign()
    assert judge.generator_loss(fake, nearer, fake.sum(), fake, 0)["generator"] < parts["generator"]
