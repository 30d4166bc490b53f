"""Published checkpoints <-> our model, through one table of names.

Published files: `vae_restorevar.ckpt` + `restorevar.pth` (RestoreVAR, 512 px), `vae_ch160v4096z32.pth` + `var_d16.pth`
(VAR, 256 px, the start of training). All are flat state dicts; every key stands in a table here, mapped to our
names or dropped on purpose.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints import save_model
from .errors import UserError, first_line
from .models import RefinerConfig, RestoreVAR, RestoreVARConfig, ScaleSchedule, TransformerConfig, VQVAEConfig
from .models.config import PAPER_SIDES, VAR_256_SIDES
from .models.rope import rope_table

State = Mapping[str, Tensor]

#: Published key -> our keys. Several of ours are joined along the first axis; none means dropped on purpose.
Table = dict[str, tuple[str, ...]]

_RES_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}
_PIXEL_ATTENTION = {"norm": "norm", "qkv": "qkv", "proj_out": "proj"}


def vae_table(config: VQVAEConfig) -> Table:
    """All keys of a published VQVAE of this size."""
    table: Table = {"quantize.ema_vocab_hit_SV": ()}  # statistics of VAR's training, read by nothing
    table["quantize.embedding.weight"] = ("vqvae.quantizer.codebook.weight",)
    for i in range(config.phi_count):
        _affine(table, f"quantize.quant_resi.qresi_ls.{i}", f"vqvae.quantizer.phis.{i}")
    for name in ("quant_conv", "post_quant_conv"):
        _affine(table, name, f"vqvae.{name}")
    for half, levels, resample in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        _autoencoder_half(table, config, half, levels, resample)
    return table


def _autoencoder_half(table: Table, config: VQVAEConfig, half: str, levels: str, resample: str) -> None:
    widths = config.widths
    for name in ("conv_in", "norm_out", "conv_out"):
        _affine(table, f"{half}.{name}", f"vqvae.{half}.{name}")
    for theirs, ours in (("block_1", "0"), ("block_2", "2")):
        _parts(table, f"{half}.mid.{theirs}", f"vqvae.{half}.middle.{ours}", _RES_BLOCK, skip="nin_shortcut")
    if config.attention:
        _parts(table, f"{half}.mid.attn_1", f"vqvae.{half}.middle.1", _PIXEL_ATTENTION)
    for i, width in enumerate(widths):
        last = i == len(widths) - 1
        before = widths[max(i - 1, 0)] if half == "encoder" else widths[min(i + 1, len(widths) - 1)]
        for j in range(config.blocks + (half == "decoder")):
            same_width = j > 0 or before == width
            theirs, ours = f"{half}.{levels}.{i}", f"vqvae.{half}.levels.{i}"
            skip = "nin_shortcut" if same_width else ""
            _parts(table, f"{theirs}.block.{j}", f"{ours}.blocks.{j}", _RES_BLOCK, skip)
            if config.attention and last:
                _parts(table, f"{theirs}.attn.{j}", f"{ours}.attentions.{j}", _PIXEL_ATTENTION)
        if (not last) if half == "encoder" else i > 0:
            _affine(table, f"{half}.{levels}.{i}.{resample}.conv", f"vqvae.{half}.levels.{i}.resample.conv")


def transformer_table(config: TransformerConfig, refiner: RefinerConfig) -> Table:
    """All keys of a published RestoreVAR transformer file, refiner included."""
    # Masks, level numbers and rotary tables follow from the scale schedule.
    dropped = ("lvl_1L", "lvl_1L_cond", "attn_bias_for_masking", "freqs_cis", "freqs_cis_cross")
    table: Table = {name: () for name in dropped}
    table |= _shared_with_var(config)
    for theirs, ours in (
        ("cond_proj4", "condition_proj"),
        ("word_embed_cond", "condition_embed"),
        ("global_embed", "start_embed"),
    ):
        _affine(table, theirs, f"transformer.{ours}")
    table["global_embed_gain"] = ("transformer.start_gain",)
    table["lvl_embed_cond.weight"] = ("transformer.condition_level",)
    for i in range(config.depth):
        theirs, ours = f"blocks.{i}.cross_attn", f"transformer.blocks.{i}.cross"
        for name in ("norm_q", "norm_kv"):
            _affine(table, f"{theirs}.{name}", f"{ours}.{name}")
        _affine(table, f"{theirs}.out_proj", f"{ours}.proj")
        table[f"{theirs}.q_proj.weight"] = (f"{ours}.q.weight",)
        table[f"{theirs}.kv_proj.weight"] = (f"{ours}.kv.weight",)
        table[f"{theirs}.gain"] = (f"{ours}.gain",)
        table[f"{theirs}.scale_mul_1H11"] = (f"{ours}.log_scale",)
    return table | _refiner_table(refiner)


def var_table(config: TransformerConfig) -> Table:
    """All keys of VAR's own transformer. AdaLN and absolute positions are what RestoreVAR removed."""
    table: Table = {name: () for name in ("pos_start", "pos_1LC", "lvl_1L", "attn_bias_for_masking")}
    adaptive = ["head_nm.ada_lin.1", *(f"blocks.{i}.ada_lin.1" for i in range(config.depth))]
    for name in adaptive:
        table |= {f"{name}.weight": (), f"{name}.bias": ()}
    return table | _shared_with_var(config)


def _shared_with_var(config: TransformerConfig) -> Table:
    table: Table = {
        "class_emb.weight": ("transformer.class_embed.weight",),
        "lvl_embed.weight": ("transformer.scale_embed.weight",),
    }
    for name in ("word_embed", "head"):
        _affine(table, name, f"transformer.{name}")
    for i in range(config.depth):
        theirs, ours = f"blocks.{i}", f"transformer.blocks.{i}"
        for name in ("fc1", "fc2"):
            _affine(table, f"{theirs}.ffn.{name}", f"{ours}.ffn.{name}")
        _affine(table, f"{theirs}.attn.proj", f"{ours}.attention.proj")
        table[f"{theirs}.attn.mat_qkv.weight"] = (f"{ours}.attention.qkv.weight",)
        table[f"{theirs}.attn.scale_mul_1H11"] = (f"{ours}.attention.log_scale",)
        table[f"{theirs}.attn.zero_k_bias"] = ()  # k has no bias; they store its zeros
        for name in ("q_bias", "v_bias"):
            table[f"{theirs}.attn.{name}"] = (f"{ours}.attention.{name}",)
    return table


def _refiner_table(config: RefinerConfig) -> Table:
    table: Table = {
        "vae_refiner.pos_embedding": ("refiner.positions",),
        "vae_refiner.pos_embedding_cond": ("refiner.positions_hidden",),
        "vae_refiner.proj_in.weight": ("refiner.proj_in.weight",),
        "vae_refiner.proj_in_cond.weight": ("refiner.proj_hidden.weight",),
        "vae_refiner.proj_out.weight": ("refiner.proj_out.weight",),
    }
    for theirs, ours in (("norm_in", "norm_in"), ("norm_in_cond", "norm_hidden"), ("transformer.norm", "norm_out")):
        _affine(table, f"vae_refiner.{theirs}", f"refiner.{ours}")
    for i in range(config.depth):
        theirs, ours = f"vae_refiner.transformer.layers.{i}", f"refiner.layers.{i}"
        table[f"{theirs}.0.to_qkv.weight"] = (f"{ours}.attention.q.weight", f"{ours}.attention.kv.weight")
        table[f"{theirs}.2.to_q.weight"] = (f"{ours}.cross.q.weight",)
        table[f"{theirs}.2.to_kv.weight"] = (f"{ours}.cross.kv.weight",)
        for a, b in (
            ("0.norm", "attention.norm"),
            ("0.to_out.0", "attention.proj"),
            ("1.net.0", "ffn.0"),
            ("1.net.1", "ffn.1"),
            ("1.net.4", "ffn.3"),
            ("2.norm_q", "cross.norm"),
            ("2.norm_kv", "cross.norm_other"),
            ("2.to_out", "cross.proj"),
        ):
            _affine(table, f"{theirs}.{a}", f"{ours}.{b}")
    return table


def _affine(table: Table, theirs: str, ours: str) -> None:
    for kind in ("weight", "bias"):
        table[f"{theirs}.{kind}"] = (f"{ours}.{kind}",)


def _parts(table: Table, theirs: str, ours: str, names: dict[str, str], skip: str = "") -> None:
    for a, b in names.items():
        if a != skip:
            _affine(table, f"{theirs}.{a}", f"{ours}.{b}")


def infer_config(vae_state: State, transformer_state: State, refiner_heads: int = 6) -> RestoreVARConfig:
    """Every size from the shapes of the published tensors; only the refiner's heads leave no trace there."""
    try:
        return RestoreVARConfig(
            scales=_infer_scales(transformer_state),
            vqvae=_infer_vqvae(vae_state),
            transformer=_infer_transformer(transformer_state),
            refiner=_infer_refiner(transformer_state, refiner_heads),
        )
    except KeyError as error:
        raise UserError(f"not a published RestoreVAR checkpoint: it has no {error}") from None


def _infer_scales(state: State) -> ScaleSchedule:
    counts = torch.bincount(state["lvl_1L"].flatten().long()).tolist()
    return ScaleSchedule(tuple(math.isqrt(count) for count in counts))


def _count(state: State, pattern: str) -> int:
    """How many numbers n fill `pattern` (a regular expression with one group) among the keys."""
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})


def _infer_vqvae(state: State) -> VQVAEConfig:
    levels = _count(state, r"encoder\.down\.(\d+)\.")
    codes, channels = state["quantize.embedding.weight"].shape
    return VQVAEConfig(
        widths=tuple(len(state[f"encoder.down.{i}.block.0.conv1.weight"]) for i in range(levels)),
        blocks=_count(state, r"encoder\.down\.0\.block\.(\d+)\."),
        latent_channels=channels,
        codebook_size=codes,
        attention="encoder.mid.attn_1.qkv.weight" in state,
        phi_count=_count(state, r"quantize\.quant_resi\.qresi_ls\.(\d+)\."),
    )


def _infer_transformer(state: State) -> TransformerConfig:
    rows, width = state["class_emb.weight"].shape
    depth = _count(state, r"blocks\.(\d+)\.")
    return TransformerConfig(
        depth=depth,
        width=width,
        heads=state["blocks.0.attn.scale_mul_1H11"].shape[1],
        mlp_ratio=len(state["blocks.0.ffn.fc1.weight"]) / width,
        classes=rows - 1,
        drop_path=0.1 * depth / 24,
    )


def _infer_refiner(state: State, heads: int) -> RefinerConfig:
    return RefinerConfig(
        depth=_count(state, r"vae_refiner\.transformer\.layers\.(\d+)\."),
        width=state["vae_refiner.pos_embedding"].shape[-1],
        heads=heads,
        mlp_width=len(state["vae_refiner.transformer.layers.0.1.net.1.weight"]),
    )


def from_official(model: RestoreVAR, state: State, table: Table, strict: bool = True) -> None:
    """Copy the published tensors into the model. Raises UserError naming a key that is missing or unknown."""
    unknown, missing = sorted(set(state) - set(table)), sorted(set(table) - set(state))
    if unknown or (missing and strict):
        what = f"unknown key {unknown[0]}" if unknown else f"no key {missing[0]}"
        raise UserError(f"not the published checkpoint: {what}")
    ours = dict(model.named_parameters())
    with torch.no_grad():
        for theirs, names in table.items():
            if not names:
                continue
            pieces = state[theirs].split([len(ours[n]) for n in names]) if len(names) > 1 else [state[theirs]]
            for name, piece in zip(names, pieces, strict=True):
                if piece.numel() != ours[name].numel():
                    raise UserError(f"not the published checkpoint: {theirs} has shape {tuple(piece.shape)}")
                ours[name].copy_(piece.reshape(ours[name].shape))


def load_official(vae_state: State, transformer_state: State, refiner_heads: int = 6) -> RestoreVAR:
    """The published model from its two state dicts, in eval mode, float32. Raises UserError for other files."""
    config = infer_config(vae_state, transformer_state, refiner_heads)
    model = RestoreVAR(config)
    from_official(model, vae_state, vae_table(config.vqvae))
    from_official(model, transformer_state, transformer_table(config.transformer, config.refiner))
    return model.eval()


def load_var_base(vae_state: State, var_state: State, scales: ScaleSchedule | None = None) -> RestoreVAR:
    """VAR's published weights as the start of a training (paper section 4.1), in eval mode as of `load_official`.

    AdaLN and absolute positions are dropped. What VAR does not have starts neutral: gains of cross-attention and
    start token at zero, the refiner's output at zero. `scales` defaults to the file's own (256 px); another schedule
    of as many scales starts a training at another size.
    """
    try:
        scales = scales or _infer_scales(var_state)
        config = RestoreVARConfig(
            scales=scales, vqvae=_infer_vqvae(vae_state), transformer=_infer_transformer(var_state)
        )
    except KeyError as error:
        raise UserError(f"not a published VAR checkpoint: it has no {error}") from None
    model = RestoreVAR(config)
    from_official(model, vae_state, vae_table(config.vqvae))
    from_official(model, var_state, var_table(config.transformer))
    return model.eval()


def to_official(model: RestoreVAR) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inverse of `load_official`: (VQVAE, transformer) state dicts with every published key.

    What the published files store but nothing needs (masks, tables, statistics) is made anew. Raises UserError for
    models with options that the published code does not know.
    """
    config = model.config
    foreign = (
        config.vqvae.patch != 1,
        config.vqvae.norm != "group",
        config.transformer.aligned_condition,
        config.transformer.positions != "rotary",
        config.refiner.kind != "lrt",
        config.refiner.positions != "learned",
        not config.refiner.hidden,
        config.condition != "continuous",
        config.fidelity is not None,
    )
    if any(foreign):
        raise UserError("this model has parts that the published code does not know; it cannot be written for it")
    ours = model.state_dict()
    vae = {theirs: _join(ours, names) for theirs, names in vae_table(config.vqvae).items() if names}
    table = transformer_table(config.transformer, config.refiner)
    transformer = {theirs: _published_shape(theirs, _join(ours, names)) for theirs, names in table.items() if names}
    vae["quantize.ema_vocab_hit_SV"] = torch.zeros(len(config.scales), config.vqvae.codebook_size)
    return vae, transformer | _derived(config)


def _join(ours: State, names: tuple[str, ...]) -> Tensor:
    return torch.cat([ours[name] for name in names]) if len(names) > 1 else ours[names[0]].clone()


def _published_shape(theirs: str, tensor: Tensor) -> Tensor:
    """They keep leading axes of one."""
    leading = ("pos_embedding", "pos_embedding_cond", "scale_mul_1H11", "lvl_embed_cond.weight")
    return tensor.unsqueeze(0) if theirs.endswith(leading) else tensor


def _derived(config: RestoreVARConfig) -> dict[str, Tensor]:
    """What their files store although it follows from the config."""
    scales, grid = config.scales, config.scales.native
    levels_L = torch.cat([torch.full((end - begin,), k) for k, (begin, end) in enumerate(scales.bounds())])
    later_LL = levels_L[:, None] < levels_L[None, :]
    mask_LL = torch.zeros(later_LL.shape).masked_fill_(later_LL, -torch.inf)
    derived = {
        "lvl_1L": levels_L[None],
        "lvl_1L_cond": torch.zeros(1, grid[0] * grid[1], dtype=torch.int64),
        "attn_bias_for_masking": mask_LL[None, None],
    }
    transformer = config.transformer
    for name, grids in (("freqs_cis", tuple(scales.grids())), ("freqs_cis_cross", (grid,))):
        cos, sin = rope_table(grids, grid, transformer.head_width, transformer.rope_base, torch.device("cpu"))
        derived[name] = torch.complex(cos, sin)
    zero_k_bias = torch.zeros(transformer.width)
    return derived | {f"blocks.{i}.attn.zero_k_bias": zero_k_bias.clone() for i in range(transformer.depth)}


def read_state(path: Path) -> dict[str, Tensor]:
    """A flat state dict from a .pth/.ckpt file, tensors only: never runs code from the file. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path}: holds more than tensors, or is no checkpoint; refused") from None
    except Exception as error:  # torch raises many kinds for damaged archives
        raise UserError(f"{path}: not a readable checkpoint ({first_line(error)})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a flat state dict of tensors")
    return state


def convert(vae: Path, transformer: Path, out: Path, refiner_heads: int = 6, window: int = 512) -> str:
    """Published files -> a model folder (safetensors, config, sha256); returns the sha256.

    `transformer` is RestoreVAR's, or VAR's var_d16.pth, which gives the start of a training at `window` pixels
    (512 or 256, the published schedules).
    """
    vae_state, state = read_state(vae), read_state(transformer)
    if "pos_1LC" in state:  # VAR's absolute positions: RestoreVAR has none
        if window not in _SCHEDULES:
            raise UserError(f"there are published scales for windows of 512 and 256 pixels, not {window}")
        model = load_var_base(vae_state, state, _SCHEDULES[window])
    else:
        model = load_official(vae_state, state, refiner_heads)
    return save_model(model, out, metadata={"source": [vae.name, transformer.name]})


_SCHEDULES = {512: ScaleSchedule(PAPER_SIDES), 256: ScaleSchedule(VAR_256_SIDES)}
