"""Other models of the same five, for training only: simpler ones, and ones nearer to photographs.

A network that has only ever seen one generator's rain learns that generator. Some samples of the training mix are made
by these, so that what is learned is what they have in common. The first of each kind is simple, as other people's code
and the papers' data sets have it; the second has what `restorevar analyze realism` found lacking in ours, the third of
haze what rooms showed. The fixed test pairs have none: `degrade` knows nothing of this page.

All functions: image_B3HW float32 in [0, 1], strength_B in [0, 1] -> the same shape in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...models.filtering import convolve
from .blur import blur, disc_kernels
from .haze import air_light, grid, ground_plane, haze, pale_is_far
from .jpeg import BLOCK, jpeg
from .lens_drops import lens_drops
from .low_light import low_light, to_linear, to_srgb
from .maps import coloured, fraction, gaussian_blur, luma, pixel_scale, resize, smooth_noise, soften, stretch
from .particles import sown, splat
from .per_sample import between, chance, spread, uniform
from .rain import streaks
from .snow import flakes


def thick_fog(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Fog as photographs of the road show it and data sets hardly do: at half a photo's depth little is left.

    A third of the samples are even, as if all were equally far: a veil over the lens, or a narrow view.
    """
    batch = len(image_B3HW)
    even_B = chance(batch, 0.33, generator)
    depth_BHW, air_B3 = under_the_sky(image_B3HW, generator)
    depth_BHW = torch.where(even_B[:, None, None], 0.8, depth_BHW)
    air_B3 = torch.where(even_B[:, None], lit_alike(air_light(batch, generator), image_B3HW), air_B3)
    strength_B = torch.where(even_B, 0.75 * strength_B, between(strength_B, 0.8, 2.0))
    air_B3HW = unevenly_lit(air_B3, image_B3HW, generator)
    return grainy(haze(image_B3HW, strength_B, generator, depth_BHW, air_B3HW), generator)


def unevenly_lit(air_B3: Tensor, image_B3HW: Tensor, generator: Generator) -> Tensor:
    """B3HW light of the air over a photo: less near the ground or to one side, and drifting; even for a quarter.

    Where fog is thick, what is left of the scene is less than that. A network that has only seen even air takes each
    darker part of it for something that shines through, and turns it into black blots.
    """
    batch, _, height, width = image_B3HW.shape
    y_HW, x_HW = grid(height, width)
    down_B11 = uniform(batch, -0.1, 0.4, generator)[:, None, None]
    across_B11 = 0.12 * torch.randn(batch, 1, 1, generator=generator)
    drift_B11 = uniform(batch, 0.0, 0.3, generator)[:, None, None]
    drift_BHW = drift_B11 * (smooth_noise(batch, height, width, generator, cells=2, octaves=4) - 0.5)
    uneven_B11 = chance(batch, 0.75, generator)[:, None, None]
    factor_BHW = 1 + uneven_B11 * (down_B11 * (0.3 - y_HW) + across_B11 * (x_HW - 0.5) + drift_BHW)
    return (air_B3[..., None, None] * factor_BHW[:, None]).clamp(0, 1)


def grainy(image_B3HW: Tensor, generator: Generator) -> Tensor:
    """A camera's noise, little but in the way where a veil is lifted; coarse where the camera had smoothed it."""
    batch, _, height, width = image_B3HW.shape
    grain_NHW = torch.randn(3 * batch, height, width, generator=generator)
    coarse_B = 2.0 * chance(batch, 0.6, generator) * uniform(batch, 0.3, 1.0, generator)
    grain_NHW = gaussian_blur(grain_NHW, coarse_B.repeat_interleave(3).clamp(min=1e-3))
    deviation_N11 = grain_NHW.flatten(1).std(dim=1).clamp(min=1e-6)[:, None, None]
    strength_B = 0.012 * uniform(batch, 0.0, 1.0, generator) ** 2
    return (image_B3HW + spread(strength_B) * (grain_NHW / deviation_N11).view_as(image_B3HW)).clamp(0, 1)


def under_the_sky(image_B3HW: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """BHW depth and B3 air of a day outdoors: what is farthest is the sky, and the air has its colour.

    Where depth is invented anything may be far, so that what a network learns to see in the thickest fog is the mean of
    all photos, which is darker than fog: it turned foggy days into nights.
    """
    batch, _, height, width = image_B3HW.shape
    small_B3hw = F.interpolate(image_B3HW, size=fraction(height, width, 4), mode="area")
    h, w = small_B3hw.shape[-2:]
    high_h1 = ((0.8 - torch.linspace(0, 1, h)) / 0.2).clamp(0, 1)[:, None]  # what is pale at the bottom is sand or snow
    sky_Bhw = high_h1 * ((pale_is_far(small_B3hw) - 0.4) / 0.25).clamp(0, 1)
    near_B = uniform(batch, 0.0, 0.35, generator)
    ground_Bhw = near_B[:, None, None] + 0.55 * ground_plane(batch, h, w, generator)
    depth_BHW = resize(torch.maximum(ground_Bhw, sky_Bhw)[:, None], (height, width))[:, 0]
    there_B1 = sky_Bhw.mean(dim=(1, 2))[:, None]
    of_sky_B3 = (small_B3hw * sky_Bhw[:, None]).mean(dim=(2, 3)) / there_B1.clamp(min=1e-3)
    of_sky_B3 = torch.lerp(of_sky_B3, of_sky_B3.mean(dim=1, keepdim=True), 0.5)  # drops have less colour than the air
    level_B1 = uniform(batch, 0.85, 1.05, generator)[:, None]
    drawn_B3 = lit_alike(air_light(batch, generator), small_B3hw)
    return depth_BHW, torch.where(there_B1 > 0.03, (of_sky_B3 * level_B1).clamp(0.4, 1), drawn_B3)


def lit_alike(air_B3: Tensor, image_B3HW: Tensor) -> Tensor:
    """B3 colour of the air, darker over a scene that is dark: the same light falls on both.

    A network that has seen bright fog before night skies and black walls makes a night of every foggy day.
    """
    bright_B = torch.quantile(luma(image_B3HW).flatten(1), 0.8, dim=1)
    return air_B3 * (bright_B / 0.55).clamp(0.35, 1)[:, None]


def banks_of_fog(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Fog and smoke in banks, with a clearer view between them, whatever stands where.

    Half of the samples are clouds added to the photo and the whole then dimmed until nothing is too bright, as
    ImageNet-C has it (Hendrycks & Dietterich, 2019); the others are puffs pasted over it.
    """
    batch, _, height, width = image_B3HW.shape
    cells = int(torch.randint(2, 5, (1,), generator=generator))
    clouds_B1HW = smooth_noise(batch, height, width, generator, cells=cells, octaves=6)[:, None]
    air_B311 = lit_alike(air_light(batch, generator), image_B3HW)[..., None, None]
    thick_B111 = spread(between(strength_B, 0.3, 2.5))
    dimmed_B3HW = (image_B3HW + thick_B111 * clouds_B1HW * air_B311) / (1 + thick_B111)
    radius_B = min(height, width) * uniform(batch, 0.03, 0.2, generator)
    sparse_B = uniform(batch, 0.3, 2.0, generator) / (math.pi * radius_B**2)
    puffs_BHW = gaussian_blur(sown(sparse_B, height, width, generator), radius_B / 1.5)
    puffs_B1HW = puffs_BHW[:, None] * spread(1.4 * radius_B**2)  # one lets half of the light through, two hardly any
    alpha_B1HW = spread(between(strength_B, 0.25, 0.9)) * (puffs_B1HW * (0.3 + 0.7 * clouds_B1HW)).clamp(0, 1)
    pasted_B3HW = torch.lerp(image_B3HW, air_B311.expand_as(image_B3HW), alpha_B1HW)
    soft_B = torch.where(chance(batch, 0.3, generator), uniform(batch, 0.3, 1.2, generator), 1e-3)
    foggy_B3HW = torch.where(spread(chance(batch, 0.5, generator)), dimmed_B3HW, pasted_B3HW)
    return grainy(soften(foggy_B3HW, soft_B), generator)


def filtered_rain(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Streaks as image editors make them: sparse noise, smeared along one direction, brightened and added.

    So were Rain1400 (Fu et al., 2017) and many later sets made. One or two layers of different length.
    """
    batch, _, height, width = image_B3HW.shape
    scale = pixel_scale(height, width)
    angle_B = 0.4 * torch.randn(batch, generator=generator).clamp(-2.2, 2.2)
    total_BHW = torch.zeros(batch, height, width)
    second_B = chance(batch, 0.5, generator).float()
    for share_B, longest in ((torch.ones(batch), 40.0), (second_B, 80.0)):
        sparse_B = torch.exp(uniform(batch, math.log(0.002), math.log(0.03), generator)) * (0.3 + strength_B)
        noise_BHW = torch.rand(batch, height, width, generator=generator)
        sown_BHW = (noise_BHW < sparse_B[:, None, None]).float() * (0.4 + 0.6 * noise_BHW / sparse_B[:, None, None])
        length_B = uniform(batch, 8.0, longest, generator) * scale
        streaks_BHW = convolve(sown_BHW[:, None], _line_kernels(length_B, angle_B))[:, 0]
        thick_B = uniform(batch, 0.2, 0.9, generator) * scale
        streaks_BHW = gaussian_blur(streaks_BHW, thick_B)
        peak_B = streaks_BHW.flatten(1).amax(1).clamp(min=1e-4)
        total_BHW += share_B[:, None, None] * streaks_BHW / peak_B[:, None, None]
    light_B = between(strength_B, 0.35, 0.95) * uniform(batch, 0.7, 1.2, generator)
    added_B1HW = spread(light_B) * total_BHW[:, None].clamp(0, 1)
    screened_B = chance(batch, 0.5, generator).float()
    return (image_B3HW + added_B1HW * (1 - spread(screened_B) * image_B3HW)).clamp(0, 1)


def drawn_rain(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Lines drawn with a pen, of one width and light from end to end, as graphics libraries draw them.

    Thin or thick, hard or soft, pasted over the photo. Some samples are dimmed with it, or softened as a whole.
    """
    batch, _, height, width = image_B3HW.shape
    scale = pixel_scale(height, width)
    thick_B = torch.exp(uniform(batch, 0.0, math.log(7.0), generator)) * scale
    length_B = uniform(batch, 8.0, 50.0, generator) * scale + 2 * thick_B
    angle_B = 0.3 * torch.randn(batch, generator=generator).clamp(-2.5, 2.5)
    covered_B = between(strength_B, 0.02, 0.2) * uniform(batch, 0.3, 1.5, generator)
    sparse_B = covered_B / (thick_B * length_B)
    sown_BHW = sown(sparse_B, height, width, generator)
    lines_BHW = convolve(sown_BHW[:, None], _stroke_kernels(length_B, angle_B, thick_B))[:, 0].clamp(0, 1)
    lines_BHW = gaussian_blur(lines_BHW, uniform(batch, 0.1, 1.2, generator))
    opacity_B = between(strength_B, 0.3, 0.8) * uniform(batch, 0.6, 1.25, generator)
    alpha_B1HW = (spread(opacity_B) * lines_BHW[:, None]).clamp(0, 1)
    bluish_B = torch.where(chance(batch, 0.3, generator), uniform(batch, 0.0, 0.3, generator), 0.0)
    colour_B3 = uniform(batch, 0.65, 1.0, generator)[:, None] * (1 - bluish_B[:, None] * torch.tensor([1.0, 0.4, 0.0]))
    dim_B = torch.where(chance(batch, 0.3, generator), uniform(batch, 0.8, 1.0, generator), 1.0)
    rainy_B3HW = torch.lerp(image_B3HW * spread(dim_B), colour_B3[..., None, None], alpha_B1HW)
    soft_B = torch.where(chance(batch, 0.2, generator), uniform(batch, 0.3, 1.5, generator), 1e-3)
    return soften(rainy_B3HW, soft_B).clamp(0, 1)


def broad_rain(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Near drops out of focus: pale, translucent bars with soft edges, many times as broad as those behind them."""
    batch, _, height, width = image_B3HW.shape
    scale = pixel_scale(height, width)
    thick_B = torch.exp(uniform(batch, math.log(3.0), math.log(16.0), generator)) * scale
    length_B = thick_B * uniform(batch, 2.0, 9.0, generator)
    angle_B = 0.3 * torch.randn(batch, generator=generator).clamp(-2.5, 2.5)
    covered_B = between(strength_B, 0.03, 0.25) * uniform(batch, 0.3, 1.5, generator)
    sown_BHW = sown(covered_B / (thick_B * length_B), height, width, generator)
    sown_BHW = sown_BHW * torch.rand(sown_BHW.shape, generator=generator).sqrt()
    bars_BHW = convolve(sown_BHW[:, None], _stroke_kernels(length_B, angle_B, thick_B))[:, 0].clamp(0, 1)
    bars_BHW = gaussian_blur(bars_BHW, uniform(batch, 0.05, 0.5, generator) * thick_B + 0.2)
    alpha_B1HW = spread(between(strength_B, 0.25, 0.6) * uniform(batch, 0.6, 1.3, generator)) * bars_BHW[:, None]
    bright_B = uniform(batch, 0.6, 1.0, generator)
    rainy_B3HW = torch.lerp(image_B3HW, spread(bright_B).expand_as(image_B3HW), alpha_B1HW)
    fine_BHW = streaks(strength_B, height, width, generator, generator)
    fine_B = uniform(batch, 0.2, 0.7, generator) * chance(batch, 0.5, generator)
    return (rainy_B3HW + spread(fine_B) * fine_BHW[:, None] * (1 - rainy_B3HW)).clamp(0, 1)


def round_snow(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """White discs and softened specks, each of one size and opacity, pasted over the photo; in some, large ones."""
    batch, _, height, width = image_B3HW.shape
    scale = pixel_scale(height, width)
    alpha_B1HW = torch.zeros(batch, 1, height, width)
    all_B, some_B = torch.ones(batch), chance(batch, 0.4, generator).float()
    for radius, dense, there_B in (
        (0.8, 0.012, all_B),
        (2.0, 0.003, all_B),
        (4.5, 0.0005, all_B),
        (10.0, 1e-4, some_B),
    ):
        sparse_B = there_B * dense * uniform(batch, 0.1, 2.0, generator) * (0.2 + strength_B) / scale**2
        radius_B = radius * scale * uniform(batch, 0.6, 1.5, generator)
        sown_BHW = sown(sparse_B, height, width, generator)
        side = 2 * math.ceil(float(radius_B.max())) + 5
        flakes_BHW = convolve(sown_BHW[:, None], disc_kernels(radius_B, side))[:, 0].clamp(0, 1)
        soft_B = uniform(batch, 0.0, 1.0, generator) * radius_B
        flakes_BHW = gaussian_blur(flakes_BHW, soft_B + 0.2)
        opacity_B = uniform(batch, 0.4, 1.0, generator)
        alpha_B1HW = 1 - (1 - alpha_B1HW) * (1 - spread(opacity_B) * flakes_BHW[:, None])
    white_B = uniform(batch, 0.85, 1.0, generator)
    return (image_B3HW + alpha_B1HW.clamp(0, 1) * (spread(white_B) - image_B3HW)).clamp(0, 1)


def driven_snow(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Flakes that the wind smears all one way, their light added, over a scene that the same light has whitened.

    ImageNet-C's snow (Hendrycks & Dietterich, 2019) is of this kind.
    """
    batch, _, height, width = image_B3HW.shape
    scale = pixel_scale(height, width)
    white_B3HW = torch.maximum(image_B3HW, 1.5 * luma(image_B3HW) + 0.5).clamp(max=1.2)
    share_B = strength_B * uniform(batch, 0.0, 0.4, generator)
    snowy_B3HW = torch.lerp(image_B3HW, white_B3HW, spread(share_B))
    angle_B = 1.2 * torch.randn(batch, generator=generator)
    for largest in (1.2, 3.5):
        size_B = uniform(batch, 0.4, largest, generator) * scale
        sparse_B = between(strength_B, 0.004, 0.05) * uniform(batch, 0.1, 1.2, generator) / (4 * size_B**2).clamp(min=1)
        sown_BHW = sown(sparse_B, height, width, generator)
        sown_BHW = sown_BHW * uniform(sown_BHW.numel(), 0.3, 1.0, generator).view_as(sown_BHW)
        grown_B = (6.3 * size_B**2).clamp(min=1)  # a flake stays as bright when it is larger
        flakes_BHW = gaussian_blur(sown_BHW, size_B) * grown_B[:, None, None]
        length_B = uniform(batch, 2.0, 18.0, generator) * scale
        smeared_BHW = convolve(flakes_BHW.clamp(max=1.5)[:, None], _line_kernels(length_B, angle_B))[:, 0]
        smeared_BHW = smeared_BHW * (length_B / (2 * size_B + 2)).clamp(1, 3)[:, None, None]
        opacity_B = uniform(batch, 0.5, 1.0, generator)
        snowy_B3HW = snowy_B3HW + spread(opacity_B) * smeared_BHW[:, None].clamp(0, 1)
        angle_B = torch.where(chance(batch, 0.3, generator), -angle_B, angle_B)
    return snowy_B3HW.clamp(0, 1)


def darkened(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """A power and a factor on the sRGB values, and even Gaussian noise; half of the samples have none."""
    batch = len(image_B3HW)
    gamma_B = between(strength_B, 1.2, 4.0) * uniform(batch, 0.8, 1.2, generator)
    gain_B = uniform(batch, 0.5, 1.0, generator)
    only_gain_B = chance(batch, 0.3, generator)
    gamma_B = torch.where(only_gain_B, torch.ones(batch), gamma_B)
    gain_B = torch.where(only_gain_B, between(strength_B, 0.6, 0.08), gain_B)
    dark_B3HW = image_B3HW.clamp(min=1e-4) ** spread(gamma_B) * spread(gain_B)
    sigma_B = torch.where(chance(batch, 0.5, generator), uniform(batch, 0.0, 0.04, generator), torch.zeros(batch))
    noisy_B3HW = dark_B3HW + spread(sigma_B) * torch.randn(image_B3HW.shape, generator=generator)
    return (noisy_B3HW.clamp(0, 1) * 255).round() / 255


def plain_blur(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """A Gaussian, or a straight line of even light."""
    batch, _, height, width = image_B3HW.shape
    scale = pixel_scale(height, width)
    sigma_B = between(strength_B, 0.4, 3.5) * scale
    gaussian_B3HW = soften(image_B3HW, sigma_B)
    angle_B = math.pi * torch.rand(batch, generator=generator)
    line_B3HW = convolve(image_B3HW, _line_kernels(between(strength_B, 3.0, 26.0) * scale, angle_B))
    return torch.where(spread(chance(batch, 0.5, generator)), gaussian_B3HW, line_B3HW).clamp(0, 1)


def out_of_focus(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """A lens set a little too near or too far, or a poor one: most blurred photos are that, and it can be undone.

    Among shaken ones alone, of which little can be, a network learns to leave every blurred photo as it is.
    """
    batch, _, height, width = image_B3HW.shape
    sigma_B = between(strength_B, 0.5, 3.0) * pixel_scale(height, width)
    soft_B3HW = soften(image_B3HW, sigma_B)
    discs_BKK = disc_kernels(1.6 * sigma_B, 2 * math.ceil(1.6 * float(sigma_B.max())) + 3)
    disc_B3HW = convolve(image_B3HW, discs_BKK / discs_BKK.sum(dim=(1, 2), keepdim=True))
    blurred_B3HW = torch.where(spread(chance(batch, 0.5, generator)), soft_B3HW, disc_B3HW)
    noise_B = 0.01 * uniform(batch, 0.0, 1.0, generator) * chance(batch, 0.5, generator)
    return (blurred_B3HW + spread(noise_B) * torch.randn(image_B3HW.shape, generator=generator)).clamp(0, 1)


def enlarged(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """A small picture made as large as the others, most with the blocks that it was saved in enlarged, too.

    It is soft like a blurred photo, but there is nothing behind the softness: sharpened as much, blocks become curls.
    """
    batch, _, height, width = image_B3HW.shape
    times_B = torch.exp(between(strength_B, math.log(1.3), math.log(4.0)))
    quality_B = torch.randint(50, 98, (batch, 1), generator=generator)
    saved_B, smooth_B = chance(batch, 0.7, generator), chance(batch, 0.6, generator)
    result_B3HW = torch.empty_like(image_B3HW)
    for i, times in enumerate(times_B.tolist()):
        size = (max(BLOCK, round(height / times)), max(BLOCK, round(width / times)))
        small = F.interpolate(image_B3HW[i : i + 1], size=size, mode="bicubic", align_corners=False, antialias=True)
        small = jpeg(small.clamp(0, 1), quality_B[i]) if saved_B[i] else small
        mode = "bicubic" if smooth_B[i] else "bilinear"
        result_B3HW[i] = F.interpolate(small, size=(height, width), mode=mode, align_corners=False)[0]
    return result_B3HW.clamp(0, 1)


def gray_fog(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Fog under a covered sky: the scene has lost its colours before the air adds its own, which is dull."""
    batch = len(image_B3HW)
    kept_B = torch.where(chance(batch, 0.7, generator), uniform(batch, 0.2, 0.8, generator), torch.ones(batch))
    dull_B3HW = coloured(image_B3HW, kept_B)
    depth_BHW, air_B3 = under_the_sky(dull_B3HW, generator)
    air_B3HW = unevenly_lit(air_B3, dull_B3HW, generator)
    foggy_B3HW = grainy(haze(dull_B3HW, between(strength_B, 0.0, 1.2), generator, depth_BHW, air_B3HW), generator)
    dim_B = uniform(batch, 0.6, 1.0, generator)  # on roads the fog itself is seldom brighter than 0.8
    return foggy_B3HW * spread(torch.where(chance(batch, 0.5, generator), dim_B, torch.ones(batch)))


def among_things(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Haze before things that stand at distances of their own: a black chair, clear, before a veiled wall.

    Where depth only follows height and paleness, something black in front tells that the whole photo is clear; rooms,
    and streets with cars, were left hazy for it. Only what is behind tells.
    """
    batch = len(image_B3HW)
    near_B11 = 0.4 * uniform(batch, 0.0, 1.0, generator)[:, None, None] ** 2
    depth_BHW = near_B11 + (1 - near_B11) * things(image_B3HW, generator)
    return haze(image_B3HW, strength_B, generator, depth_BHW)


def things(image_B3HW: Tensor, generator: Generator, most: int = 24) -> Tensor:
    """BHW depth in [0, 1], even on each of 4 to `most` parts of alike place and colour, with steps between them.

    Each part takes its distance partly from the ground that it stands on, partly by chance.
    """
    batch, _, height, width = image_B3HW.shape
    smooth_B = uniform(batch, 0.005, 0.02, generator) * min(height, width)  # leaves and grass are no things
    colour_B3HW = spread(uniform(batch, 0.4, 2.0, generator)) * soften(image_B3HW, smooth_B)
    place_B2HW = torch.stack(grid(height, width)).expand(batch, -1, -1, -1)
    seen_B5N = torch.cat([place_B2HW, colour_B3HW], dim=1).flatten(2)
    middles_BK = torch.randint(height * width, (batch, most), generator=generator)
    middles_B5K = seen_B5N.gather(2, middles_BK[:, None].expand(-1, 5, -1))
    left_out_BK = torch.arange(most) >= uniform(batch, 4.0, most + 1.0, generator)[:, None]
    distance_BNK = torch.cdist(seen_B5N.transpose(1, 2), middles_B5K.transpose(1, 2))
    nearest_BN = distance_BNK.masked_fill(left_out_BK[:, None], math.inf).argmin(dim=2)
    ground_BK = ground_plane(batch, height, width, generator).flatten(1).gather(1, middles_BK)
    by_chance_B1 = uniform(batch, 0.2, 1.0, generator)[:, None]
    depth_BK = torch.lerp(ground_BK, torch.rand(batch, most, generator=generator), by_chance_B1)
    depth_BHW = stretch(depth_BK.gather(1, nearest_BN).view(batch, height, width))
    return gaussian_blur(depth_BHW, torch.ones(batch))  # as a camera's edges are


def against_the_light(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Black ground below a sky or a window that stays bright; and rooms lit by one warm lamp. In linear light."""
    batch, _, height, width = image_B3HW.shape
    light_B3HW = to_linear(image_B3HW)
    mean_BHW = light_B3HW.mean(dim=1)
    smooth_B1HW = gaussian_blur(mean_BHW, uniform(batch, 0.5, 6.0, generator))[:, None]
    knee_B = torch.quantile(smooth_B1HW.flatten(1), 0.8, dim=1) * uniform(batch, 0.8, 1.2, generator) + 0.05
    bright_B1HW = torch.sigmoid((smooth_B1HW / spread(knee_B) - 1) / spread(uniform(batch, 0.05, 0.4, generator)))
    lamp_BHW = smooth_noise(batch, height, width, generator, cells=2, octaves=1) ** 3
    lamps_B = chance(batch, 0.4, generator)
    lit_B1HW = torch.where(spread(lamps_B), lamp_BHW[:, None], bright_B1HW)
    shadow_B = torch.exp(between(strength_B, math.log(0.25), math.log(0.008)))
    warm_B = torch.where(chance(batch, 0.4, generator), 0.35 * torch.randn(batch, generator=generator).abs(), 0.0)
    cast_B3 = torch.exp(warm_B[:, None] * torch.tensor([0.6, 0.0, -1.0]))
    gain_B1HW = spread(shadow_B) + (1 - spread(shadow_B)) * lit_B1HW
    dark_B3HW = light_B3HW * gain_B1HW * cast_B3[..., None, None]
    sigma_B = 0.02 * uniform(batch, 0.0, 1.0, generator) ** 2 * shadow_B.sqrt()
    noisy_B3HW = dark_B3HW + spread(sigma_B) * torch.randn(dark_B3HW.shape, generator=generator)
    crushed_B = torch.where(chance(batch, 0.5, generator), uniform(batch, 0.0, 0.04, generator), torch.zeros(batch))
    encoded_B3HW = (to_srgb(noisy_B3HW.clamp(0, 1)) - spread(crushed_B)).clamp(min=0)
    deep_B = chance(batch, 0.35, generator)  # else no lamp: darker than our own, and cleaner
    deep_B3HW = low_light(image_B3HW * spread(uniform(batch, 0.35, 0.8, generator)), strength_B, generator)
    return (torch.where(spread(deep_B), deep_B3HW, encoded_B3HW) * 255).round() / 255


def gray_rain(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Rain as cameras see it: drops show the gray of the sky, so before a bright sky there are none to be seen."""
    batch, _, height, width = image_B3HW.shape
    dull_B3HW = coloured(image_B3HW, uniform(batch, 0.6, 1.0, generator))
    alpha_BHW = streaks(strength_B, height, width, generator, generator)
    alpha_B1HW = spread(uniform(batch, 0.2, 0.7, generator)) * alpha_BHW[:, None]
    gray_B = uniform(batch, 0.6, 0.95, generator)
    return dull_B3HW + alpha_B1HW * (spread(gray_B) - dull_B3HW).clamp(min=0)


def soft_snow(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Flakes through which the scene is seen, blurred by their distance, over a scene that is paler for the snow."""
    batch, _, height, width = image_B3HW.shape
    pale_B3HW = coloured(image_B3HW, uniform(batch, 0.4, 1.0, generator))
    veil_B = 0.5 * strength_B * uniform(batch, 0.0, 1.0, generator)
    pale_B3HW = torch.lerp(pale_B3HW, torch.full_like(pale_B3HW, 0.85), spread(veil_B))
    alpha_BHW = flakes(strength_B * 0.8, height, width, generator, generator)
    alpha_BHW = gaussian_blur(alpha_BHW, uniform(batch, 0.3, 2.0, generator) * pixel_scale(height, width))
    alpha_B1HW = (spread(uniform(batch, 0.4, 0.9, generator)) * alpha_BHW[:, None]).clamp(0, 1)
    return pale_B3HW + alpha_B1HW * (spread(uniform(batch, 0.85, 1.0, generator)) - pale_B3HW)


def blur_with_lights(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """What is burnt out was brighter than white before the sensor cut it off, so it leaves white trails.

    Only where it is rare: a photo of snow is no photo of lamps.
    """
    burnt_B1HW = ((luma(image_B3HW) - 0.85) / 0.15).clamp(min=0)
    rare_B = (burnt_B1HW > 0).float().mean(dim=(1, 2, 3)) < 0.04
    brighter_B = uniform(len(image_B3HW), 0.3, 2.5, generator) * rare_B
    whole_B = 1 + brighter_B
    scaled_B3HW = (image_B3HW + spread(brighter_B) * burnt_B1HW) / spread(whole_B)
    return (blur(scaled_B3HW, strength_B, generator) * spread(whole_B)).clamp(0, 1)


def _line_kernels(length_B: Tensor, angle_B: Tensor) -> Tensor:
    """BKK straight lines of even light and sum 1, length_B px long, at angle_B (0: straight down)."""
    batch, steps = len(length_B), 96
    side = 2 * math.ceil(float(length_B.max()) / 2) + 3
    along_K = torch.linspace(-0.5, 0.5, steps)
    y_BK = length_B[:, None] * torch.cos(angle_B)[:, None] * along_K + side // 2
    x_BK = length_B[:, None] * torch.sin(angle_B)[:, None] * along_K + side // 2
    lines_BKK = splat(torch.arange(batch), y_BK, x_BK, torch.ones(batch, steps), (batch, side, side))
    return lines_BKK / lines_BKK.sum(dim=(1, 2), keepdim=True)


def _stroke_kernels(length_B: Tensor, angle_B: Tensor, thick_B: Tensor) -> Tensor:
    """BKK coverage in [0, 1] of a pen of thick_B px that goes length_B px straight at angle_B (0: down)."""
    side = 2 * math.ceil(float((length_B + thick_B).max()) / 2) + 3
    offset_K = (torch.arange(side) - side // 2).float()
    y_1K1, x_11K = offset_K[None, :, None], offset_K[None, None, :]
    down_B11, across_B11 = torch.cos(angle_B)[:, None, None], torch.sin(angle_B)[:, None, None]
    half_B11 = length_B[:, None, None] / 2
    along_BKK = y_1K1 * down_B11 + x_11K * across_B11
    beside_BKK = x_11K * down_B11 - y_1K1 * across_B11
    beyond_BKK = (along_BKK.abs() - half_B11).clamp(min=0)
    return (thick_B[:, None, None] / 2 + 0.5 - torch.hypot(beside_BKK, beyond_BKK)).clamp(0, 1)


#: Degradation -> other ways to make it, all equally likely.
VARIANTS: dict[str, tuple[Callable[[Tensor, Tensor, Generator], Tensor], ...]] = {
    "haze": (thick_fog, gray_fog, among_things, banks_of_fog),
    "rain": (filtered_rain, gray_rain, drawn_rain, broad_rain, lens_drops),
    "snow": (round_snow, soft_snow, driven_snow),
    "lowlight": (darkened, against_the_light),
    "blur": (plain_blur, blur_with_lights, out_of_focus, enlarged),
}
