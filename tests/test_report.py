"""Reports: the paper's figures as printed, ours where they belong and nowhere else, every row with its place."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.report import paper
from restorevar.evaluation.report.gallery import gallery
from restorevar.evaluation.report.latex import latex
from restorevar.evaluation.report.markdown import letter, markdown
from restorevar.evaluation.report.measured import Measurements
from restorevar.evaluation.report.sources import Results, load
from restorevar.evaluation.report.table import Cell, Column, Line, Table, number
from restorevar.evaluation.report.tables import NUMBERS, all_tables
from restorevar.evaluation.rows import Row, append_row


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def row(method="compact", protocol="restorevar-512", dataset="RESIDE", image="a.png", **changes) -> Row:
    plain = Row(
        method, "0123456789abcdef", {"fidelity": 1.0}, protocol, dataset, "haze", image,
        f"/sots/outdoor/{image}", "t", None,
        {"psnr": 25.0, "ssim": 0.8}, {"psnr": 15.0, "ssim": 0.7}, None, {"scikit-image": "0.26"},
    )  # fmt: skip
    return replace(plain, **changes)


def rows(gain=5.0, spread=1.0, n=8, seed=0, **fixed) -> list[Row]:
    rng = np.random.default_rng(seed)
    before = np.random.default_rng(99).normal(15, 2, n)
    return [
        row(
            image=f"{i}.png",
            scores={"psnr": float(b + gain + spread * rng.normal())},
            before={"psnr": float(b)},
            **fixed,
        )
        for i, b in enumerate(before)
    ]


def table(results: list[Row], which: str, reference=None) -> Table:
    return next(t for t in all_tables(Results(rows=results), reference) if t.number == which)


def lines(found: Table, label: str) -> list[Line]:
    return [line for line in found.lines if line.label == label]


# --------------------------------------------------------------------------------------------- the paper's own


def test_the_papers_averages_are_the_means_of_its_columns():
    """Typing errors would show: two different parts of the paper agree to the last digit but one."""
    for method, scores in paper.TABLE_2.rows.items():
        means = np.mean([s for s in scores if s is not None], axis=0)
        musiq, clipiqa = paper.TABLE_2_AVERAGES[method]
        assert means[1] == pytest.approx(clipiqa, abs=0.0011), method
        assert means[0] == pytest.approx(paper.wrong_averages().get(method, musiq), abs=0.0011), method
    # Off by 4, 2, 4 and -2 in one of six columns, in the paper or on the way here.
    off = {m: round(6 * (paper.TABLE_2_AVERAGES[m][0] - mean)) for m, mean in paper.wrong_averages().items()}
    assert off == {"InstructIR": 4, "AWRaCLe": 2, "DCPT": 4, "DFPIR": -2}
    assert any("InstructIR 49.233" in note for note in table([], "2").notes)


def test_every_row_of_the_paper_has_its_place():
    """With no results at all: figures of the paper, and for ours the command, or that they are not at hand."""
    tables = {t.number: t for t in all_tables(Results())}
    assert list(tables) == [n for n in NUMBERS if n != "ours"]
    for number_, methods in {"1": paper.METHODS, "2": paper.METHODS, "3": paper.TABLE_3}.items():
        for method in methods:
            assert [li.source for li in lines(tables[number_], method)][:1] == ["paper"], (number_, method)
    for number_ in ("1", "2"):
        for method in paper.METHODS:
            (missing,) = lines(tables[number_], method)[1:]
            assert missing.source == "weights" and "restorevar evaluate" in missing.remedy
            assert paper.TABLE_1.protocol in missing.remedy and not missing.cells
    assert sum(li.source == "paper" for li in tables["4"].lines) == 4
    assert {li.label for li in tables["5"].lines} == set(paper.GENERATIVE)
    assert {li.label for li in tables["6"].lines} == set(paper.REGRESSION)
    assert [li.source for li in tables["9"].lines] == ["unknown"]
    for number_, count in {"7": 6, "8": 8}.items():
        assert len([li for li in tables[number_].lines if li.remedy]) == count
        assert tables[number_].lines[-1].source == "unknown"
    assert [c.text for c in tables["10"].lines[0].cells[:3]] == ["0.0086", "0.1863", "0.0061"]


# ------------------------------------------------------------------------------------------ ours beside the paper


def test_table_1_takes_rows_of_its_protocol_and_data():
    found = table([row(), row(image="b.png", scores={"psnr": 26.0, "ssim": 0.9})], "1")
    (measured,) = lines(found, "compact")
    assert [c.text for c in measured.cells[:4]] == ["25.50", "0.850", "-", "-"] and measured.source == "measured"
    assert [c.text for c in lines(found, "degraded input")[0].cells[:2]] == ["15.00", "0.700"]
    assert "Images of compact: RESIDE 2 (LPIPS 0)." in found.notes


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "native-rgb"},
        {"dataset": "haze_sots_indoor"},
        {"input": "/data/RESIDE/SOTS/indoor/hazy/1.png"},
    ],
)
def test_other_protocols_and_data_never_stand_under_the_papers_columns(changes):
    tables = all_tables(Results(rows=[row(**changes)]))
    assert not any(line.source == "measured" for t in tables for line in t.lines if t.number in NUMBERS)
    ours = [t for t in tables if t.title.startswith("Our held-out sets: PSNR")]
    assert len(ours) == 1 and "do not belong beside its columns" in ours[0].caption
    assert lines(ours[0], "compact")[0].cells[0].value == 25.0


def test_peers_stand_under_the_papers_names():
    found = table([row("promptir"), row("restorevar-published"), row("Diff-Plugin")], "1")
    for method in ("PromptIR", "RestoreVAR"):
        assert [line.source for line in lines(found, method)] == ["paper"], method
    assert [line.source for line in lines(found, "Diff-Plugin")] == ["paper", "measured"]
    sources = {line.label: line.group for line in found.lines if line.source == "measured"}
    assert sources["promptir"] == "regression" and sources["restorevar-published"] == "generative"


def test_the_best_of_each_group_is_marked():
    found = table([row("restorevar-published", scores={"psnr": 30.0, "ssim": 0.1})], "1")
    best = {(found.lines[i].label, c) for i, c in found.best()}
    assert ("PromptIR", 0) in best and ("restorevar-published", 0) in best and ("RestoreVAR", 0) not in best
    assert ("RestoreVAR", 1) in best and ("DFPIR", 2) in best  # the lowest LPIPS


def test_variants_of_a_method_are_told_apart():
    results = [row(), row(settings={"fidelity": 0.5}), row(sha256="f" * 64)]
    labels = {v.label for v in Measurements(results).methods()}
    assert labels == {
        "compact (01234567, fidelity=1.0)",
        "compact (01234567, fidelity=0.5)",
        "compact (ffffffff, fidelity=1.0)",
    }


def test_table_2_has_an_average_only_of_all_six():
    noref = {"protocol": "restorevar-512-noref", "scores": {"musiq": 60.0, "clipiqa": 0.5}, "before": {}}
    six = [row(dataset=d, **noref) for d in ("LHP", "REVIDE", "TOLED", "POLED", "LOLBlur", "CDD_haze_rain")]
    assert lines(table(six, "2"), "compact")[0].cells[-2].text == "60.000"
    assert lines(table(six[:5], "2"), "compact")[0].cells[-2].text == "-"


def test_table_8_compares_on_the_same_images():
    rng, results = np.random.default_rng(0), []
    for dataset in ("LHP", "TOLED"):
        for i in range(6):
            for method, plus in (("RestoreVAR", 2.0), ("autodir", 0.0)):
                scores = {
                    "musiq": 50 + plus + float(rng.normal()),
                    "clipiqa": 0.4 + plus / 100 + float(rng.normal()) / 50,
                }
                results.append(
                    row(method, "restorevar-512-noref", dataset, f"{i}.png", scores=scores, before={}, settings={})
                )
    found = table(
        [*results, row("autodir", "restorevar-512-noref", "LHP", "x.png", scores={"musiq": 1.0}, settings={})], "8"
    )
    measured = [line for line in found.lines if line.source == "measured"]
    assert [line.label for line in measured] == [f"{m}: RestoreVAR - autodir" for m in ("MUSIQ", "CLIPIQA")]
    assert measured[0].cells[0].text == "12" and measured[0].cells[1].text == "2"  # images, data sets
    assert 0.5 < measured[0].cells[2].value < 3.5


# ------------------------------------------------------------------------------------------------ held-out sets


def test_held_out_sets_count_alike_and_clean_photos_apart():
    results = [
        *rows(gain=1.0, spread=0, n=4, protocol="native-rgb", dataset="small"),
        *rows(gain=3.0, spread=0, n=16, protocol="native-rgb", dataset="large"),
        *[replace(r, task="clean", before={"psnr": 100.0}) for r in rows(protocol="native-rgb", dataset="clean")],
    ]
    found = all_tables(Results(rows=results))
    all_sets = next(t for t in found if t.number == "ours, native-rgb, all")
    (line,) = all_sets.lines
    assert line.cells[2].text == "+2.00" and [c.text for c in line.cells[:2]] == ["20", "2"]
    means = next(t for t in found if t.number == "ours, native-rgb, psnr")
    assert [c.title for c in means.columns] == ["small (n 4)", "large (n 16)", "clean (n 8)", "mean of sets"]
    ours, given = (lines(means, label)[0].cells[-1].value for label in ("compact", "degraded input"))
    assert ours - given == pytest.approx(2.0, abs=0.011)


def test_means_over_other_images_are_not_compared():
    results = [
        *rows(protocol="native-rgb", dataset="d"),
        *rows(n=5, protocol="native-rgb", dataset="d", method="other"),
    ]
    found = table(results, "ours, native-rgb, psnr")
    assert found.best() == set() and "(n 5)" in lines(found, "other")[0].cells[0].text


def test_holm_is_over_the_lines_of_a_table():
    results = [
        r
        for method, gain in (("a", 5.0), ("b", 4.6), ("c", 4.9))
        for r in rows(gain, 0.5, protocol="native-rgb", dataset="d", method=method, seed=ord(method))
    ]
    found = table(results, "ours, native-rgb, all", reference="b")
    plain, adjusted = ([line.cells[c].value for line in found.lines] for c in (5, 6))
    assert len(plain) == 3 and all(line.label.startswith("PSNR: b - ") for line in found.lines)
    assert sorted(adjusted)[0] == pytest.approx(3 * sorted(plain)[0])
    against_input = lines(found, "PSNR: b - degraded input")[0]
    assert against_input.cells[-1].text == "b" and against_input.cells[9].text == "100 %"
    with pytest.raises(UserError, match="no results of x"):
        table(results, "1", reference="x")


def test_lower_is_better_turns_the_verdict():
    results = [
        replace(r, scores={"piqe": 20.0 + i}, before={"piqe": 40.0}) for i, r in enumerate(rows(protocol="native-y"))
    ]
    (line,) = table(results, "ours, native-y, all").lines
    assert line.cells[2].value < 0 and line.cells[-1].text == "compact" and line.cells[9].text == "100 %"


def test_a_metric_of_which_nobody_says_where_it_points_has_no_best():
    old = [
        replace(r, method=m, scores={"pyiqa:niqe": 4.0 + i + gain}, before={"pyiqa:niqe": 9.0 + i})
        for m, gain in (("a", 0.0), ("b", 1.0))
        for i, r in enumerate(rows(protocol="native-rgb"))
    ]
    told = [replace(r, better={"pyiqa:niqe": "lower"}) for r in old]
    for results, heading, favoured, share in ((old, "RESIDE (n 8)", "-", "-"), (told, "RESIDE (n 8) ↓", "a", "100 %")):
        means = table(results, "ours, native-rgb, pyiqa:niqe")
        assert means.columns[0].heading == heading and any("do not say" in n for n in means.notes) == (results is old)
        assert {means.lines[i].label for i, _ in means.best()} == (set() if results is old else {"a"})
        compared = lines(table(results, "ours, native-rgb, all", reference="a"), "pyiqa:niqe: a - degraded input")[0]
        assert (compared.cells[-1].text, compared.cells[9].text) == (favoured, share)


# ---------------------------------------------------------------------------------------------- other results


PARTS = ("encoder", "scale 1 (1x1)", "condition projection", "refiner", "decoder")
OURS = {"timing": {"median": 0.05}, "flops": 4.07e12, "parameters": 405.9e6, "dtype": "bf16", "how": "ours"}
BENCH = {
    "device_name": "Test GPU",
    "date": "2026-01-01",
    "command": "restorevar bench",
    "model": {"name": "paper"},
    "breakdown": {"size": 512, "dtype": "bf16", "parts": [{"name": n, "timing": {"median": 0.01}} for n in PARTS]},
    "rivals": [
        {"method": "RestoreVAR", "paper": {"steps": 10}, "measured": OURS},
        {"method": "AutoDIR", "paper": {"steps": 100}, "measured": None},
    ],
}


def test_a_benchmark_fills_tables_5_and_10(tmp_path):
    (tmp_path / "bench.json").write_text(json.dumps(BENCH))
    tables = {t.number: t for t in all_tables(load([tmp_path / "bench.json"]))}
    (line,) = lines(tables["5"], "RestoreVAR: ours")
    assert [c.text for c in line.cells] == ["10", "0.05", "4.07", "405.90", "Test GPU, bf16"]
    assert [li.source for li in lines(tables["5"], "AutoDIR")] == ["paper", "unmeasured"]
    assert [c.text for c in tables["10"].lines[1].cells] == ["0.02", "0.02", "0.01", "Test GPU, bf16"]
    assert all(li.source != "unmeasured" for li in tables["10"].lines)


def test_an_ablation_is_a_table_of_its_own(tmp_path):
    about = {"scale": "debug", "budget": "5m", "seed": 0, "crops": 4}
    values = {"seconds_per_image": 0.1, "refiner_parameters": 5000, "psnr": 20.0, "ssim": 0.5, "error": None}
    file = tmp_path / "study" / "ablation.json"
    file.parent.mkdir()
    names = ("full", "refiner-none", "positions-absolute")
    file.write_text(json.dumps({"about": about, "bounds": [], "rows": [{"variant": n, **values} for n in names]}))
    tables = {t.number: t for t in all_tables(load([file]))}
    assert [line.label for line in tables["4b"].lines] == ["LRT", "no refiner"]
    assert "Not the paper's size" in tables["4b"].caption
    assert not any(line.source == "measured" for line in tables["4"].lines)


def test_results_that_are_refused(tmp_path):
    for name, text in {"a.json": "[1]", "b.json": '{"x": 1}', "c.jsonl": '{"x": 1}\n'}.items():
        (tmp_path / name).write_text(text)
        result = run("report", tmp_path / name, "-o", tmp_path / "r.md")
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and name in result.stderr
    (tmp_path / "ok.jsonl").write_text("")
    (tmp_path / "folder.md").mkdir()
    for arguments, words in (
        (["-o", tmp_path / "r.pdf"], "--format"),
        (["-o", tmp_path / "r.md", "--table", "11"], "--table 11"),
        (["-o", tmp_path / "r.md", "--gallery", "-1"], "--gallery"),
        (["-o", tmp_path / "folder.md"], "is a folder"),
    ):
        result = run("report", tmp_path / "ok.jsonl", *arguments)
        assert result.exit_code == 2 and words in result.stderr, result.output
    assert not (tmp_path / "r.md").exists()


# ----------------------------------------------------------------------------------------------------- formats

ODD = "a|b_c & 5% <i>$x$ *y*"


def odd_table() -> Table:
    columns = [Column("p", "set", "higher"), Column("q", "set", "lower")]
    odd = [
        Line(ODD, "measured", [number(1.5, 1, " ± 0.1"), number(2.0, 1)], group="g1", contest="x"),
        Line("other", "paper", [number(1.4, 1), Cell("-")], group="g2", contest="x"),
        Line("missing", "weights", group="g2", remedy="restorevar evaluate --x  (a <remark>)"),
    ]
    return Table("1", "T & t", "About 95 % <b>", "method", columns, odd, ["A note_1."])


def test_markdown():
    text = markdown(odd_table())
    assert "| a\\|b_c & 5% &lt;i>$x$ \\*y\\* | **1.5 ± 0.1** | 2.0 | measured |" in text
    assert "| missing | - | - | needs weights (a) |" in text and "- (a) `restorevar evaluate --x`" in text
    rows_ = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows_}) == 1
    assert [letter(i) for i in (0, 25, 26, 52)] == ["a", "z", "aa", "ba"]


def test_latex():
    text = latex(odd_table())
    assert r"a|b\_c \& 5\% \textless{}i\textgreater{}\$x\$ *y* & \textbf{1.5 $\pm$ 0.1} & 2.0 & measured \\" in text
    assert r"\multicolumn{2}{c}{set}" in text and r"\cmidrule(lr){2-3}" in text and r"p $\uparrow$" in text
    assert r"\texttt{restorevar evaluate -{}-x" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert all(ord(c) < 128 for c in latex(odd_table()))


class Balanced(HTMLParser):
    """Every element is closed where it should be, and nothing is loaded."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.found: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.found[tag] = self.found.get(tag, 0) + 1
        self.ids += [values["id"]] if "id" in values else []
        for name in ("src", "href"):
            assert values.get(name, "#").startswith(("#", "data:")), values[name]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def parsed(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    assert parser.open == [] and len(set(parser.ids)) == len(parser.ids)
    assert "http-equiv" in text and "default-src 'none'" in text
    return parser


@pytest.fixture
def pictured(tmp_path):
    """Rows whose files exist, of two methods and the truth; names that would be markup."""
    rng = np.random.default_rng(0)
    log = tmp_path / "rows.jsonl"
    for i in range(5):
        files = {}
        for kind, size in (("input", (60, 40)), ("target", (60, 40)), ("compact", (60, 40)), ("other", (60, 40))):
            path = tmp_path / kind / f"<i>{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path)
            files[kind] = path
        for method in ("compact", "other"):
            append_row(
                log,
                row(
                    method,
                    "saved-8bit",
                    "set <b>",
                    f"<i>{i}.png",
                    input=str(files["input"]),
                    target=f"target/<i>{i}.png",  # relative to the rows
                    output=str(files[method]),
                    scores={"psnr": 20.0 + i},
                    before={"psnr": 15.0},
                ),
            )
    return log


def test_html_is_one_file_with_everything_in_it(pictured, tmp_path):
    result = run("report", pictured, "-o", tmp_path / "r.html", "--gallery", "3")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "r.html").read_text()
    page = parsed(text)
    assert page.found["figure"] == 3 and page.found["svg"] == 1
    assert page.found["img"] == 3 * 4  # input, two methods, truth
    assert "<i>" not in text and "set <b>" not in text
    assert "18 pictures" not in result.output and "12 pictures" in result.output
    assert "data:image/webp" in text
    bare = run("report", pictured, "-o", tmp_path / "bare.html", "--gallery", "0", "--table", "1")
    assert bare.exit_code == 0 and "figure" not in parsed((tmp_path / "bare.html").read_text()).found


def test_the_gallery_is_spread_over_what_was_gained(pictured):
    found = Measurements(load([pictured]).rows)
    items = gallery(found, found.methods()[0], 3, [pictured.parent])
    assert [item.image for item in items] == ["<i>0.png", "<i>2.png", "<i>4.png"]
    assert "number 5 of 5" in items[0].about and "PSNR 15.00 to 20.00" in items[0].about
    assert [label for label, _ in items[0].afters] == ["compact", "other", "truth"]
    assert (items[0].before.width, items[0].before.height) == (60, 40)


def test_a_file_that_is_gone_or_damaged_costs_its_picture_only(pictured, tmp_path):
    (tmp_path / "compact" / "<i>2.png").unlink()
    (tmp_path / "input" / "<i>0.png").write_bytes(b"no picture")
    result = run("report", pictured, "-o", tmp_path / "r.html", "--gallery", "5")
    assert result.exit_code == 0 and "0.png" in result.stderr
    assert parsed((tmp_path / "r.html").read_text()).found["figure"] == 3


@pytest.mark.parametrize("suffix", ["md", "tex"])
def test_text_reports_need_no_pictures(pictured, tmp_path, suffix):
    result = run("report", pictured, "-o", tmp_path / f"r.{suffix}")
    assert result.exit_code == 0, result.output
    text = (tmp_path / f"r.{suffix}").read_text()
    assert "Rajagopalan" not in text and "2505.18047" in text and "24.67" in text


# ----------------------------------------------------------------------------------------------------- results


@pytest.fixture
def held_out(tmp_path):
    """ROOT as `restorevar results` takes it, tiny: one clean photo, one pair, one real photo."""
    y, x = np.mgrid[0:72, 0:88]
    picture = Image.fromarray(np.stack([x * 2, y * 3, x + y], -1).astype(np.uint8))
    root = tmp_path / "heldout"
    for i, place in enumerate(("clean/kodak", "pairs/haze_set/input", "pairs/haze_set/target", "real/rain")):
        (root / place).mkdir(parents=True)
        picture.point(lambda v, i=i: v // (1 + i % 2) + 40 * (i % 2)).save(root / place / "one.png")
    return root


def test_results_in_one_command_and_again_for_nothing(held_out, tiny, tmp_path):
    checkpoints.save_model(tiny, tmp_path / "model")
    out, work = tmp_path / "docs" / "results.md", tmp_path / "work"
    command = ["results", held_out, "-o", out, "--work", work, "--model", tmp_path / "model", "--device", "cpu"]
    command += ["--dtype", "fp32", "--metrics", "psnr,ssim,piqe"]
    command += ["--protocol", "native-rgb", "--protocol", "saved-8bit"]  # the debug model takes 512x512 too, but slowly
    result = run(*command, "--gallery", tmp_path / "g.html")
    assert result.exit_code == 0, result.output
    text = out.read_text()
    assert "| kodak-synthetic-haze |" in text and "| haze_set |" in text and "| kodak-synthetic-clean |" in text
    assert "| n | native-rgb input | native-rgb restored | native-rgb gain" in text and "saved-8bit gain" in text
    clean = next(line for line in text.splitlines() if line.startswith("| kodak-synthetic-clean |"))
    assert clean.split("|")[3].strip() == "-" and float(clean.split("|")[4]) > 0
    real = next(line for line in text.splitlines() if line.startswith("| real-rain |"))
    assert text.index("## PIQE") < text.index(real)  # PSNR has no line of what has no truth
    assert "data:image" not in text and "](" not in text and str(tmp_path) not in text
    assert parsed((tmp_path / "g.html").read_text()).found["figure"] == 8
    stamp = (work / "rows.jsonl").stat().st_mtime_ns
    again = run(*command)
    assert again.exit_code == 0 and (work / "rows.jsonl").stat().st_mtime_ns == stamp
    assert out.read_text() == text


def test_results_mistakes(held_out, tmp_path):
    for arguments, words in (
        ([tmp_path / "no", "-o", tmp_path / "r.md"], "no such folder"),
        ([held_out, "-o", tmp_path], "folder"),
        ([held_out, "-o", tmp_path / "r.md", "--protocol", "x"], "no protocol x"),
        ([tmp_path / "heldout" / "real", "-o", tmp_path / "r.md"], "none of clean"),
    ):
        result = run("results", *arguments, "--work", tmp_path / "w", "--device", "cpu")
        assert result.exit_code == 2 and words in result.stderr, result.output
        assert len(result.stderr.splitlines()) == 1
