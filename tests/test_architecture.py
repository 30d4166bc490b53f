"""The import stack: arrows point one way, and what `restore` needs starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import restorevar

PACKAGE = Path(restorevar.__file__).parent

#: Rooms from top to bottom; a room may import itself and rooms below it.
STACK = [
    {"cli"},
    {"serving"},
    {"scaling"},
    {"batch"},
    {"video"},
    {"training"},
    {"benchmarks"},
    {"evaluation"},
    {"bias_correction", "diagnosis", "doctor", "export"},
    {"pipeline"},
    {"glimpse", "mosaic"},
    {"official_weights"},
    {"acceleration", "checkpoints"},
    {"data"},
    {"models"},
    {"images"},
    {"tiling", "halving"},
    {"errors", "heap"},
]
LEVEL = {room: i for i, rooms in enumerate(STACK) for room in rooms}


def imports(path: Path) -> set[str]:
    """Rooms of ours that a file imports at any depth, `if TYPE_CHECKING` and functions included."""
    package = ("restorevar", *path.relative_to(PACKAGE).with_suffix("").parts)[:-1]
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            names = [*base, *(node.module.split(".") if node.module else [])]
            if names[:1] == ["restorevar"]:
                rooms |= {names[1]} if len(names) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            rooms |= {p[1] for p in parts if p[0] == "restorevar" and len(p) > 1}
    return rooms & set(LEVEL)


#: The two doors of the package stand above the stack.
DOORS = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p not in DOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in LEVEL, f"{room} has no place in the stack"
    for other in imports(path) - {room}:
        assert LEVEL[other] > LEVEL[room], f"{path.name} imports {other}, which is not below {room}"


def test_models_import_only_torch_and_themselves():
    for path in (PACKAGE / "models").glob("*.py"):
        assert imports(path) <= {"models"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= {"torch", "math"}, path


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["restore", "--help"]])
def test_help_does_not_wait_for_torch(arguments):
    code = (
        "import sys; from restorevar.cli import main; sys.argv = ['restorevar', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, timeout=60)


def test_restoring_needs_no_extra():
    """The core runs without what only training, evaluation or development install."""
    hidden = "skimage scipy tifffile torchvision hypothesis pytest av fastapi gradio httpx ray pyarrow onnx onnxruntime"
    code = f"import sys\nfor name in {hidden.split()}: sys.modules[name] = None\n"
    for module in ("cli", "pipeline", "batch", "video", "scaling", "diagnosis", "training.run", "evaluation.scoring"):
        code += f"import restorevar.{module}\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_public_api():
    assert set(restorevar.__all__) == {"RestoreVAR", "Restorer", "__version__", "available_models"}
    for name in restorevar.__all__:
        assert getattr(restorevar, name) is not None
    with pytest.raises(AttributeError):
        getattr(restorevar, "surprise")  # noqa: B009
