"""The loop that the drivers share: images of a list in, outputs out. Runs in the peer's environment, not in ours."""

from __future__ import annotations

import argparse
import json
import os
import sys

import numpy as np
import torch
from PIL import Image


def arguments():
    """The options of every driver. The checkout becomes the first place to import from."""
    parser = argparse.ArgumentParser()
    for name in ("checkout", "weights", "list", "out"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    sys.path.insert(0, options.checkout)
    return options


def run(options, restore):
    """Call `restore(image, text)` for every row; images are (1, 3, H, W) in [0, 1], on the device.

    Outputs are rounded to 8 bits and appear under their names when they are whole. Those that exist are left alone.
    """
    with open(options.list, encoding="utf-8") as file:
        rows = json.load(file)
    job = os.path.dirname(os.path.abspath(options.list))
    os.makedirs(options.out, exist_ok=True)
    for number, row in enumerate(rows, start=1):
        target = os.path.join(options.out, row["key"] + ".png")
        if os.path.exists(target):
            continue
        pixels = np.asarray(Image.open(os.path.join(job, row["input"])).convert("RGB"), dtype=np.float32) / 255
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(options.device)
        with torch.no_grad():
            output = restore(image, row["text"])
        if not torch.isfinite(output).all():
            sys.exit(f"the output for {row['input']} is not finite")
        result = (output[0].float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        Image.fromarray(result).save(target + ".part", format="PNG")
        os.replace(target + ".part", target)
        print(f"{number} of {len(rows)}", flush=True)


def load_strictly(network, state, file):
    """Load a state dict of which nothing may be missing; keys that the network lacks are told and passed over."""
    state = {key[7:] if key.startswith("module.") else key: value for key, value in state.items()}
    missing = [key for key in network.state_dict() if key not in state]
    if missing:
        what = f"lacks {len(missing)} of the network's tensors, {missing[0]} first"
        sys.exit(f"{file}: {what}: other weights?")
    extra = [key for key in state if key not in network.state_dict()]
    if extra:
        print(f"{file}: {len(extra)} tensors that the network does not have are passed over, {extra[0]} first")
    network.load_state_dict(state, strict=False)
    return network
