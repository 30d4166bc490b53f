"""Number for number the published model: parity with tensors that the published code computed."""

from __future__ import annotations

import pytest
import torch
from conftest import published_keys

from restorevar import official_weights as ow
from restorevar.errors import UserError
from restorevar.models import RestoreVAR, RestoreVARConfig
from restorevar.models.config import PAPER_SIDES, VAR_256_SIDES, ScaleSchedule, paper

TOLERANCE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def model(official) -> RestoreVAR:
    return ow.load_official(official["vae"], official["var"]).requires_grad_(False)


@pytest.fixture(scope="module")
def rollout(model, official):
    """(f_hat per scale, discrete latent, hidden) of the degraded batch."""
    partial = []
    condition = model.vqvae.encode_condition(official["input"]["degraded"])
    f_hat, hidden = model.generate(condition, lambda event: partial.append(event.f_hat_BCHW))
    return partial, f_hat, hidden


def close(actual, expected):
    torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_condition_tokens(model, official):
    condition = model.vqvae.encode_condition(official["input"]["degraded"])
    close(condition.flatten(2).transpose(1, 2), official["expected"]["condition_tokens"])


def test_clean_latent_and_token_indices(model, official):
    clean = official["input"]["clean"]
    close(model.vqvae.encode(clean), official["expected"]["latent_clean"])
    tokens = model.vqvae.tokenize(clean)
    assert len(tokens) == 4
    for k, tokens_Bl in enumerate(tokens):
        assert torch.equal(tokens_Bl, official["expected"][f"indices.{k}"].long())


def test_partial_latents_and_discrete_decoding(model, official):
    expected = official["expected"]
    tokens = [expected[f"indices.{k}"].long() for k in range(4)]
    partial = model.vqvae.quantizer.partial_latents(tokens, (4, 4))
    for k, f_hat in enumerate(partial):
        close(f_hat, expected[f"f_hat.{k}"])
    close(model.vqvae.decode(partial[-1]), expected["decoded_discrete_pm1"])


def test_teacher_forcing(model, official):
    expected = official["expected"]
    tokens = [expected[f"indices.{k}"].long() for k in range(4)]
    teacher = model.vqvae.quantizer.teacher_forcing_input(tokens, (4, 4))
    close(teacher, expected["teacher_forcing_input"])
    logits, _ = model.transformer(teacher, model.vqvae.encode_condition(official["input"]["degraded"]))
    close(logits, expected["teacher_forced_logits"])


def test_rollout_and_refiner(model, official, rollout):
    expected = official["expected"]
    _, f_hat, hidden = rollout
    close(f_hat, expected["inference_discrete_latent"])
    close(hidden, expected["inference_last_block"])
    close(model.refine(f_hat, hidden), expected["inference_refined_latent"])


def test_restored_image(model, official):
    restored = model.restore(official["input"]["degraded"])
    close((restored + 1) / 2, official["expected"]["inference_image_01"])


def test_every_expected_tensor_is_checked(official):
    checked = {f"indices.{k}" for k in range(4)} | {f"f_hat.{k}" for k in range(4)}
    checked |= {"condition_tokens", "latent_clean", "decoded_discrete_pm1", "teacher_forcing_input"}
    checked |= {"teacher_forced_logits", "inference_discrete_latent", "inference_last_block"}
    checked |= {"inference_refined_latent", "inference_image_01"}
    assert set(official["expected"]) == checked


def test_sizes_are_inferred(model):
    config = model.config
    assert config.scales.sides == (1, 2, 3, 4)
    assert config.vqvae.widths == (32, 32, 64, 64, 128)
    assert (config.transformer.depth, config.transformer.width, config.transformer.heads) == (2, 128, 2)
    assert (config.refiner.depth, config.refiner.width, config.refiner.mlp_width) == (2, 48, 96)
    assert config.window == 64 and not config.any_window


def test_there_and_back(model, official):
    vae, transformer = ow.to_official(model)
    assert set(vae) == set(official["vae"]) and set(transformer) == set(official["var"])
    for ours, theirs in ((vae, official["vae"]), (transformer, official["var"])):
        for key, tensor in theirs.items():
            assert ours[key].shape == tensor.shape, key
            if key == "quantize.ema_vocab_hit_SV":
                continue
            if key.startswith("freqs_cis"):
                close(ours[key], tensor)
            else:
                assert torch.equal(ours[key], tensor.to(ours[key].dtype)), key
    again = ow.load_official(vae, transformer)
    for (name, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("vae_restorevar.ckpt", ow.vae_table(paper().vqvae)),
        ("restorevar.pth", ow.transformer_table(paper().transformer, paper().refiner)),
        ("vae_ch160v4096z32.pth", ow.vae_table(paper().vqvae)),
        ("var_d16.pth", ow.var_table(paper().transformer)),
    ],
)
def test_every_published_key_is_mapped_or_dropped(file, table):
    keys = published_keys(file)
    assert set(keys) == set(table)
    with torch.device("meta"):
        parameters = dict(RestoreVAR(paper()).named_parameters())
    for key, names in table.items():
        if names and not (file == "var_d16.pth" and key == "lvl_1L"):
            count = sum(parameters[name].numel() for name in names)
            assert count == torch.Size(keys[key][0]).numel(), key


def test_published_files_fill_the_whole_model():
    with torch.device("meta"):
        ours = {name for name, _ in RestoreVAR(paper()).named_parameters()}
    tables = ow.vae_table(paper().vqvae) | ow.transformer_table(paper().transformer, paper().refiner)
    assert {name for names in tables.values() for name in names} == ours


def test_published_sizes_are_inferred_from_the_key_lists():
    def state(file):
        kinds = {"float32": torch.float32, "int64": torch.int64, "complex64": torch.complex64}
        return {
            k: torch.empty(shape, dtype=kinds[kind], device="meta") for k, (shape, kind) in published_keys(file).items()
        }

    transformer = state("restorevar.pth")
    transformer["lvl_1L"] = torch.cat([torch.full((s * s,), k) for k, s in enumerate(PAPER_SIDES)])[None]
    assert ow.infer_config(state("vae_restorevar.ckpt"), transformer) == paper()


def test_parameter_counts_of_the_paper():
    with torch.device("meta"):
        counts = RestoreVAR(paper()).count_parameters()
    assert counts == {"vqvae": 108_948_355, "transformer": 273_986_097, "refiner": 22_967_616}
    assert round((counts["transformer"] + counts["refiner"]) / 1e6, 2) == 296.95  # table 5


@pytest.fixture
def var_base(official):
    """A state dict as VAR's own files have it, of the fixture's size: AdaLN and absolute positions, no condition."""
    table = ow.var_table(ow._infer_transformer(official["var"]))
    generator = torch.Generator().manual_seed(0)
    shared = {k: v for k, v in official["var"].items() if k in table}
    extra = {k: torch.randn(3, generator=generator) for k in table if k not in shared}
    return shared | extra


def test_var_base_starts_neutral(official, var_base):
    model = ow.load_var_base(official["vae"], var_base)
    assert model.config.scales.sides == (1, 2, 3, 4)
    assert torch.equal(model.transformer.word_embed.weight, official["var"]["word_embed.weight"])
    assert model.transformer.start_gain.item() == 0
    assert all(block.cross.gain.item() == 0 for block in model.transformer.blocks)
    latent, hidden = torch.randn(1, 32, 4, 4), torch.randn(1, 30, 128)
    assert torch.equal(model.refine(latent, hidden), latent)
    # Neutral means: what is generated does not depend on the degraded image yet.
    one, two = (model.generate(torch.randn(1, 32, 4, 4))[0] for _ in range(2))
    assert torch.equal(one, two)


def test_var_base_at_another_schedule(official, var_base):
    model = ow.load_var_base(official["vae"], var_base, ScaleSchedule((1, 3, 5, 8)))
    assert model.config.window == 128
    assert len(VAR_256_SIDES) == len(PAPER_SIDES)  # so VAR's level embeddings serve the 512 px schedule


def test_other_checkpoints_are_refused(official):
    with pytest.raises(UserError, match="unknown key extra"):
        ow.load_official(official["vae"] | {"extra": torch.zeros(1)}, official["var"])
    short = {k: v for k, v in official["var"].items() if k != "head.bias"}
    with pytest.raises(UserError, match=r"no key head\.bias"):
        ow.load_official(official["vae"], short)
    with pytest.raises(UserError, match="not a published"):
        ow.load_official({}, {})


def test_our_models_are_not_written_for_the_published_code(tiny):
    with pytest.raises(UserError, match="published code does not know"):
        ow.to_official(tiny)


def test_read_state_never_runs_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code from the file ran')",))

    path = tmp_path / "evil.pth"
    torch.save({"a": Evil()}, path)
    with pytest.raises(UserError, match=r"evil\.pth"):
        ow.read_state(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"evil\.pth"):
        ow.read_state(path)
    with pytest.raises(UserError, match="no such file"):
        ow.read_state(tmp_path / "missing.pth")


def test_convert_writes_a_loadable_folder(official, tmp_path):
    from restorevar.checkpoints import load_model

    for part in ("vae", "var"):
        torch.save(official[part], tmp_path / f"{part}.pth")
    digest = ow.convert(tmp_path / "vae.pth", tmp_path / "var.pth", tmp_path / "out")
    loaded = load_model(str(tmp_path / "out"))
    assert loaded.sha256 == digest
    assert isinstance(loaded.model.config, RestoreVARConfig)
    restored = loaded.model.restore(official["input"]["degraded"])
    close((restored + 1) / 2, official["expected"]["inference_image_01"])


def test_convert_makes_a_start_from_var(official, var_base, tmp_path, monkeypatch):
    from restorevar.checkpoints import load_model

    torch.save(official["vae"], tmp_path / "vae.pth")
    torch.save(var_base, tmp_path / "var.pth")
    with pytest.raises(UserError, match="512 and 256"):
        ow.convert(tmp_path / "vae.pth", tmp_path / "var.pth", tmp_path / "x", window=300)
    monkeypatch.setitem(ow._SCHEDULES, 512, ScaleSchedule((1, 3, 5, 8)))
    ow.convert(tmp_path / "vae.pth", tmp_path / "var.pth", tmp_path / "start")
    model = load_model(str(tmp_path / "start")).model
    assert model.config.window == 8 * 16 and model.transformer.start_gain.item() == 0
    assert torch.equal(model.transformer.word_embed.weight, official["var"]["word_embed.weight"])
