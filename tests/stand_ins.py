"""Stand-ins for the compared methods: programs with their flags, files and traps, written into a folder.

What they restore is no picture anyone wants, but one that can be told: every sample v becomes 0.75 v + 30, cut to a
whole number. Written from how the originals behave; none of their code is here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch


def restored(image: np.ndarray) -> np.ndarray:
    """What a stand-in makes of [H, W, 3] uint8."""
    return (image * 0.75 + 30).astype(np.uint8)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")


_START = """
import argparse, json, os, sys
import numpy as np
from PIL import Image
def restored(image): return (np.asarray(image.convert("RGB")) * 0.75 + 30).astype(np.uint8)
def crop(image, base=16):
    w, h = image.size
    left, top = w % base // 2, h % base // 2
    return image.crop((left, top, left + w // base * base, top + h // base * base))
"""


def promptir(folder: Path) -> Path:
    """Crops to 16, joins paths without a slash, cuts four characters off names, reads any --tile as yes."""
    demo = """
import net.model
parser = argparse.ArgumentParser()
for name, kind in (("test_path", str), ("output_path", str), ("ckpt_name", str), ("tile", bool), ("tile_size", int),
                   ("tile_overlap", int)):
    parser.add_argument("--" + name, type=kind, default=128 if kind is int else None)
options = parser.parse_args()
open("ckpt/" + options.ckpt_name).read()
os.makedirs(options.output_path, exist_ok=True)
for name in os.listdir(options.test_path):
    image = crop(Image.open(options.test_path + name))
    if options.tile:
        assert options.tile_size % 8 == 0, "tile size should be multiple of 8"
        print("Using Tiling")
    Image.fromarray(restored(image)).save(options.output_path + name[:-4] + ".png")
"""
    touch(folder / "ckpt/model.ckpt")
    return write(folder, {"demo.py": _START + demo, "net/model.py": "", "utils/dataset_utils.py": ""})


def instructir(folder: Path) -> Path:
    """No script for a folder; the text decides: an empty one, or an unknown one, leaves the image black."""
    network = """
import torch
class InstructIR(torch.nn.Module):
    def __init__(self, width, textdim):
        super().__init__()
        self.gain, self.body = torch.nn.Parameter(torch.zeros(1)), torch.nn.Conv2d(3, width, 1)
    def forward(self, image, text):
        assert image.shape[1] == 3 and text.ndim == 2
        return (image * 255 * self.gain * 0.75 + 30).floor() / 255 * (text.sum() > 0)
def create_model(input_channels=3, width=32, enc_blks=(), middle_blk_num=12, dec_blks=(), txtdim=768):
    assert input_channels == 3 and txtdim == 256 and middle_blk_num == 4
    return InstructIR(width, txtdim)
"""
    text = """
import torch
class LanguageModel:
    def __init__(self, model): assert model == "TaylorAI/bge-micro-v2"
    def __call__(self, texts): return torch.tensor([[float(len(t)) for _ in range(384)] for t in texts])
class LMHead(torch.nn.Module):
    def __init__(self, embedding_dim, hidden_dim, num_classes):
        super().__init__()
        self.fc = torch.nn.Linear(embedding_dim, hidden_dim)
        self.classes = num_classes
    def forward(self, x): return self.fc(x), None
"""
    config = """
llm: {model: 'TaylorAI/bge-micro-v2', model_dim: 384, embd_dim: 256, nclasses: 7}
model: {in_ch: 3, width: 2, enc_blks: [2, 2, 4, 8], middle_blk_num: 4, dec_blks: [2, 2, 2, 2], textdim: 256}
"""
    write(folder, {"models/instructir.py": network, "text/models.py": text, "configs/eval5d.yml": config})
    body = torch.nn.Conv2d(3, 2, 1).state_dict()
    image = {"gain": torch.ones(1), **{f"body.{name}": value for name, value in body.items()}}
    torch.save(image, folder / "models/im_instructir-7d.pt")
    head = {"fc.weight": torch.ones(256, 384), "fc.bias": torch.zeros(256)}
    torch.save(head, folder / "models/lm_instructir-7d.pt")
    return folder


def awracle(folder: Path) -> Path:
    """Pairs inputs with truths by their order, fails without truths, draws examples at random if none are given."""
    test = """
parser = argparse.ArgumentParser()
for name in ("mode", "ckpt_name", "test_dir", "output_path", "degrad_context", "clean_context"):
    parser.add_argument("--" + name, default=None)
options = parser.parse_args()
assert options.mode == "1" and os.path.isfile(options.ckpt_name)
inputs, truths = (sorted(os.listdir(options.test_dir + name)) for name in ("degraded", "GT"))
if options.degrad_context is None or options.clean_context is None:
    sys.exit("a context drawn at random")
crop(Image.open(options.degrad_context)), crop(Image.open(options.clean_context))
os.makedirs(options.output_path, exist_ok=True)
for name, truth in zip(inputs, truths):
    image = crop(Image.open(os.path.join(options.test_dir + "degraded", name)))
    clean = crop(Image.open(os.path.join(options.test_dir + "GT", truth)))
    assert image.size == clean.size
    Image.fromarray(restored(image)).save(options.output_path + name.replace(name.split(".")[-1], "png"))
print("psnr: inf")
"""
    touch(folder / "best.ckpt")
    return write(folder, {"test.py": _START + test, "net/model.py": "", "utils/dataset_utils.py": ""})


def dcpt(folder: Path) -> Path:
    """Needs truths of the same names, writes below the folder above its script, moves earlier results aside."""
    test = """
import time, yaml
sys.path.append(".")
from basicsr.models import MODELS
parser = argparse.ArgumentParser()
parser.add_argument("-opt", required=True)
parser.add_argument("--force_yml", nargs="+", default=[])
options = parser.parse_args()
opt = yaml.safe_load(open(options.opt))
for entry in options.force_yml:
    keys, value = entry.split("=")
    *way, last = keys.split(":")
    place = opt
    for key in way:
        place = place[key]
    assert last in place
    place[last] = value
assert opt["network_g"]["type"] in MODELS and open(opt["path"]["pretrain_network_g"]).read()
root = os.path.abspath(os.path.join(__file__, os.path.pardir, os.path.pardir))
results = os.path.join(root, "results", opt["name"])
if os.path.exists(results):
    os.rename(results, results + "_archived_" + str(time.time()))
for _, data in sorted(opt["datasets"].items()):
    names = os.listdir(data["dataroot_lq"])
    assert sorted(names) == sorted(os.listdir(data["dataroot_gt"])) and data["io_backend"] == {"type": "disk"}
    folder = os.path.join(results, "visualization", data["name"])
    os.makedirs(folder, exist_ok=True)
    for name in names:
        output = restored(Image.open(os.path.join(data["dataroot_lq"], name)))
        if opt["val"]["save_img"] and opt["val"]["suffix"] is None:
            Image.fromarray(output).save(os.path.join(folder, os.path.splitext(name)[0] + "_" + opt["name"] + ".png"))
"""
    touch(folder / "pretrained_models/dcpt_nafnet_5d.pth")
    names = 'MODELS = ("NAFNetBaseline", "PromptIR", "Restormer", "SwinIR")'
    files = {"basicsr/test.py": _START + test, "basicsr/models/__init__.py": names, "basicsr/models/sr_model.py": ""}
    return write(folder, files | {"basicsr/__init__.py": ""})


def dfpir(folder: Path) -> Path:
    """A network that is told by CLIP's code of a fixed text; its own script would go on without weights."""
    network = """
import torch
class ChannelShuffle_skip_textguaid(torch.nn.Module):
    def __init__(self, device="cuda:1"):
        super().__init__()
        self.gain, self.shift = torch.nn.Parameter(torch.rand(1)), torch.nn.Parameter(torch.rand(1))
    def forward(self, image, code):
        assert code.dtype == torch.float32 and image.shape[2] % 16 == 0 and image.shape[3] % 16 == 0
        return (image * 255 * self.gain + self.shift).floor() / 255
"""
    clip = """
import torch
class Model:
    def encode_text(self, tokens): return tokens.half()
def load(name, device): return Model(), None
KNOWN = ("Hazy degradation with normal haze", "Rain degradation with rain lines", "Blur degradation with motion blur")
def tokenize(texts):
    assert all(text in KNOWN for text in texts), texts
    return torch.ones(1, 512)
"""
    write(folder, {"net/model.py": network, "test_5D_DFPIR.py": "", "clip.py": clip})
    state = {"module.gain": torch.tensor([0.75]), "module.shift": torch.tensor([30.0]), "module.old": torch.zeros(1)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "5d.pth")
    return folder


def diff_plugin(folder: Path) -> Path:
    """Input and result side by side, in ./temp_results whatever is asked; enlarges, and rounds sides down to 8."""
    infer = """
parser = argparse.ArgumentParser()
for name in ("img_path", "ckpt_dir", "pretrained_model_name_or_path", "num_inference_steps", "seed"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--save_root", default="temp_results/")
parser.add_argument("--inp_of_unet_is_random_noise", action="store_true")
options = parser.parse_args()
os.makedirs(options.save_root, exist_ok=True)
for name in ("scb/diffusion_pytorch_model.bin", "tpb.pt"):
    open(os.path.join(options.ckpt_dir, name)).read()
assert options.inp_of_unet_is_random_noise == ("lowlight" in options.ckpt_dir)
image = Image.open(options.img_path).convert("RGB")
size = image.size
if min(size) < 512:
    size = tuple(int(side * 512 / min(image.size)) for side in size)
size = tuple(side // 8 * 8 for side in size)
result = restored(image.resize(size))
both = np.concatenate([np.asarray(image.resize(size)), result], 1)
Image.fromarray(both).save(os.path.join("./temp_results/", os.path.basename(options.img_path)))
"""
    for plugin in ("dehaze", "derain", "desnow", "lowlight", "deblur"):
        names = ("scb/config.json", "scb/diffusion_pytorch_model.bin", "tpb.pt")
        touch(*(folder / "pre-trained" / plugin / name for name in names))
    return write(folder, {"infer.py": _START + infer, "modules/SCB.py": "", "modules/TPB.py": ""})


def autodir(folder: Path) -> Path:
    """Results with and without its correction; several steps, or none, if it is not told what to do."""
    script = """
from stable_diffusion.ldm.util import known
import ldm.util
parser = argparse.ArgumentParser()
for name in ("input", "output", "ckpt", "config", "cfg-text", "steps", "seed"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--customize", default=None)
options = parser.parse_args()
open(options.config).read(), open(options.ckpt).read()
name = os.path.basename(options.input).split(".")[0]
image = Image.open(options.input).convert("RGB")
if image.size[0] % 64 or image.size[1] % 64:
    sys.exit("RuntimeError: Sizes of tensors must match except in dimension 1")
if options.customize:
    assert options.customize in known, options.customize
place = os.path.join(options.output, name)
image.save(place + "_input.png")
for step in range(1 if options.customize else 2):
    if not options.customize and np.asarray(image).mean() > 180:
        print("No artifact detected. End of the Image Restoration Process.")
        break
    result = restored(image)
    corrected = np.clip(result.astype(int) + 9, 0, 255).astype(np.uint8)
    Image.fromarray(result).save(f"{place}_step_{step}_result.png")
    Image.fromarray(corrected).save(f"{place}_step_{step}_result_w_SCM.png")
    image.save(f"{place}_step_{step}_input.png")
    image = Image.fromarray(corrected)
"""
    known = 'known = ("A photo needs haze artifact reduction", "A photo needs underexposure artifact reduction")'
    touch(folder / "checkpoints/autodir.ckpt")
    files = {"eval_w_SCM.py": _START + script, "configs/generate.yaml": "", "stable_diffusion/ldm/util.py": known}
    return write(folder, files)


def pixwizard(folder: Path) -> Path:
    """Its own sizes, names that are numbers, a list that goes on from run to run, networks found from where it runs."""
    sample = """
parser = argparse.ArgumentParser()
for name in ("ckpt", "image_save_path", "json_path", "image_root", "resolution", "sdxl_vae_path", "tokenizer_path",
             "clip_tokenizer_path", "seed", "num_sampling_steps"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--ema", action="store_true")
options = parser.parse_known_args()[0]
assert sys.argv[1] == "ODE" and os.path.isdir("models/clip/clip-vit-large-patch14-336")
open(os.path.join(options.ckpt, "consolidated_ema.00-of-01.pth")).read()
images = os.path.join(options.image_save_path, "images")
os.makedirs(images, exist_ok=True)
record = os.path.join(options.image_save_path, "data.json")
info = json.load(open(record)) if os.path.exists(record) else []
side = int(options.resolution)
sizes = [(side + 16 * i, side - 16 * i) for i in range(-side // 32, side // 32)]
for index, row in enumerate(json.load(open(options.json_path))):
    image = Image.open(os.path.join(options.image_root, row["input_path"])).convert("RGB")
    truth = Image.open(os.path.join(options.image_root, row["target_path"]))
    size = min(sizes, key=lambda s: abs(s[0] / s[1] - image.size[0] / image.size[1]))
    image = image.resize(size, Image.LANCZOS)
    place = f"{images}/{row['task']}_{row['dataset']}_{index}_{size[0]}x{size[1]}"
    Image.fromarray(restored(image)).save(place + ".png")
    image.save(place + "_input.png")
    truth.resize(size).save(place + "_gt.png")
    open(place + "_prompt.txt", "w").write(row["prompt"])
    info.append(row)
    json.dump(info, open(record, "w"))
"""
    (folder / "models/clip/clip-vit-large-patch14-336").mkdir(parents=True)
    touch(folder / "weights/consolidated_ema.00-of-01.pth", folder / "weights/model_args.pth")
    return write(folder, {"sample_pixwizard.py": _START + sample, "models/model.py": ""})


def published(folder: Path) -> Path:
    """512x512 and a strip of three; two data sets are written as JPEG; a slash missing goes into the name."""
    infer = """
from all_args import get_args
KNOWN = ("Haze", "Rain", "Snow", "Low-light", "Motion blur", "Mixed", "toled", "poled")
options = get_args()
open(options.vae_ckpt).read(), open(options.var_ckpt).read()
assert options.model_depth == 16 and sum(n * n for n in options.patch_nums) == 2240
for row in json.load(open(options.json_path)):
    assert row["degradation"] in KNOWN and os.path.exists(row["target_path"])
    ds, name = row["dataset"], row["image_path"].split("/")[-1]
    image = Image.open(row["image_path"]).convert("RGB").resize((512, 512), Image.LANCZOS)
    strip = Image.fromarray(np.concatenate([np.asarray(image), restored(image), np.asarray(image)], 1))
    os.makedirs(options.result_dir + ds, exist_ok=True)
    if "CDD" in ds or "LOLBlur" in ds:
        strip.save(os.path.join(options.result_dir, ds, name.replace(".png", ".jpg")), format="JPEG", quality=95)
    else:
        strip.save(os.path.join(options.result_dir, ds, name))
"""
    arguments = """
import argparse
def get_args():
    parser = argparse.ArgumentParser()
    for name in ("json_path", "vae_ckpt", "var_ckpt", "result_dir"):
        parser.add_argument("--" + name, type=str, required=True)
    parser.add_argument("--model_depth", type=int, required=True)
    parser.add_argument("--patch_nums", type=int, nargs="+")
    return parser.parse_args()
"""
    touch(folder / "ckpts/vae_restorevar.ckpt", folder / "ckpts/restorevar.pth")
    return write(folder, {"infer.py": _START + infer, "all_args.py": arguments, "models/var.py": ""})
