"""Pairs whose degradations are made by other people's code: how does a model do on what its own engine never makes?

    pip install "numpy<1.24" "opencv-python-headless<4.10" "scikit-image<0.21" imagecorruptions==1.1.2 imgaug==0.4.0
    python other_engines.py imagecorruptions PHOTOS PAIRS
    python other_engines.py imgaug PHOTOS PAIRS

in an environment of their own, and in another, since it wants a later numpy,

    pip install pillow albumentations==2.0.8
    python other_engines.py albumentations PHOTOS PAIRS

PAIRS/<task>_<package>_<what>/{input,target} holds PNGs, which

    restorevar evaluate PAIRS

scores. Settings are the packages' own where they have them, severity 3 of 5 for imagecorruptions; seeds are fixed.
Only numpy and Pillow are needed beside the package.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Maker = Callable[[np.ndarray], np.ndarray]  #: (H, W, 3) uint8 -> degraded, likewise

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def imagecorruptions() -> dict[str, Maker]:
    """ImageNet-C (Hendrycks & Dietterich, 2019) for pictures of any size."""
    from imagecorruptions import corrupt

    def maker(name: str) -> Maker:
        return lambda image: corrupt(image, corruption_name=name, severity=3)

    tasks = {
        "haze": ["fog"],
        "snow": ["snow"],
        "rain": ["spatter"],
        "blur": ["defocus_blur", "motion_blur"],
    }
    return {f"{task}_imagecorruptions_{name}": maker(name) for task, names in tasks.items() for name in names}


def imgaug() -> dict[str, Maker]:
    from imgaug import augmenters as iaa

    augmenters = {
        "haze_imgaug_fog": iaa.Fog(),
        "rain_imgaug_rain": iaa.Rain(),
        "snow_imgaug_snowflakes": iaa.Snowflakes(),
        "lowlight_imgaug_gamma": iaa.GammaContrast((2.0, 3.5), per_channel=False),
        "lowlight_imgaug_multiply": iaa.Sequential([iaa.Multiply((0.1, 0.3)), iaa.AdditiveGaussianNoise(scale=3)]),
        "blur_imgaug_motion": iaa.MotionBlur(k=15),
    }
    return {name: (lambda image, augment=augment: augment(image=image)) for name, augment in augmenters.items()}


def albumentations() -> dict[str, Maker]:
    import albumentations as A

    transforms = {
        "haze_albumentations_fog": A.RandomFog(p=1),
        "rain_albumentations_default": A.RandomRain(p=1),
        "rain_albumentations_drizzle": A.RandomRain(rain_type="drizzle", p=1),
        "rain_albumentations_heavy": A.RandomRain(rain_type="heavy", p=1),
        "rain_albumentations_spatter": A.Spatter(mode="rain", p=1),
        "snow_albumentations_texture": A.RandomSnow(method="texture", p=1),
        "lowlight_albumentations_brightness": A.Compose(
            [A.RandomBrightnessContrast((-0.6, -0.4), (-0.1, 0.1), p=1), A.ISONoise(p=1)]
        ),
        "blur_albumentations_gaussian": A.GaussianBlur(sigma_limit=(1.0, 3.0), p=1),
        "blur_albumentations_motion": A.MotionBlur(blur_limit=(9, 21), p=1),
        "blur_albumentations_defocus": A.Defocus(radius=(2, 5), p=1),
    }
    made: dict[str, Maker] = {}
    for name, transform in transforms.items():
        whole = A.Compose([transform], seed=0)
        made[name] = lambda image, whole=whole: whole(image=image)["image"]
    return made


PACKAGES = {"imagecorruptions": imagecorruptions, "imgaug": imgaug, "albumentations": albumentations}


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    if "imgaug" in sys.modules:
        sys.modules["imgaug"].seed(seed)


def main(package: str, photos: Path, pairs: Path) -> None:
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        sys.exit(f"{photos}: no photos there")
    for name, make in PACKAGES[package]().items():
        for i, path in enumerate(files):
            seed_everything(i)
            clean = np.asarray(Image.open(path).convert("RGB"))
            for folder, image in (("target", clean), ("input", make(clean))):
                out = pairs / name / folder / f"{path.stem}.png"
                out.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(out)
        print(f"{name}: {len(files)}")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in PACKAGES:
        sys.exit(f"usage: python other_engines.py {'|'.join(PACKAGES)} PHOTOS PAIRS")
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
