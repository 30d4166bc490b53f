"""InstructIR over a list of images: the text decides how the image network works. Runs in the peer's environment."""

from __future__ import annotations

import os

import torch
import yaml
from peer_loop import arguments, load_strictly, run

os.environ["TOKENIZERS_PARALLELISM"] = "false"


def main():
    options = arguments()
    from models import instructir  # of the checkout
    from text.models import LanguageModel, LMHead

    with open(os.path.join(options.checkout, "configs", "eval5d.yml")) as file:
        config = yaml.safe_load(file)
    sizes, words = config["model"], config["llm"]
    network = instructir.create_model(
        input_channels=sizes["in_ch"],
        width=sizes["width"],
        enc_blks=sizes["enc_blks"],
        middle_blk_num=sizes["middle_blk_num"],
        dec_blks=sizes["dec_blks"],
        txtdim=sizes["textdim"],
    )
    head = LMHead(embedding_dim=words["model_dim"], hidden_dim=words["embd_dim"], num_classes=words["nclasses"])
    for part, name in ((network, "im_instructir-7d.pt"), (head, "lm_instructir-7d.pt")):
        path = os.path.join(options.weights, name)
        load_strictly(part, torch.load(path, map_location="cpu"), path).to(options.device).eval()
    language = LanguageModel(model=words["model"])
    known = {}

    def restore(image, text):
        if text not in known:
            known[text] = head(language([text]).to(options.device))[0]
        return network(image, known[text])

    run(options, restore)


if __name__ == "__main__":
    main()
