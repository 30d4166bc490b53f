"""DFPIR over a list of images: CLIP's code of the degradation goes with each. Runs in the peer's environment."""

from __future__ import annotations

import sys

import torch
from peer_loop import arguments, load_strictly, run


def main():
    options = arguments()
    import clip
    from net.model import ChannelShuffle_skip_textguaid  # of the checkout

    network = ChannelShuffle_skip_textguaid(device=options.device)
    state = torch.load(options.weights, map_location="cpu")
    if not isinstance(state, dict) or "state_dict" not in state:
        sys.exit(f"{options.weights}: has no state_dict: other weights?")
    load_strictly(network, state["state_dict"], options.weights).to(options.device).eval()
    language, _ = clip.load("ViT-B/32", device=options.device)
    known = {}

    def restore(image, text):
        if text not in known:
            known[text] = language.encode_text(clip.tokenize([text]).to(options.device)).float()
        return network(image, known[text])

    run(options, restore)


if __name__ == "__main__":
    main()
