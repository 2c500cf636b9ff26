"""Who may import what: the core stays pure and light, and each layer knows only those below it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"app", "tables", "agents"}
#: What a cold function would pay for.
HEAVY = {"faust", "mode", "aiokafka", "redis", "aiohttp", "pydantic", "pydantic_settings", "typer", "rich", "rocksdict"}
HEAVY |= {"numba", "llvmlite"}
#: What a function does not need before its first feature; Kafka, Redis and settings it does.
BESIDE_A_FUNCTION = HEAVY - {"aiokafka", "redis", "pydantic", "pydantic_settings"} | {"pywt", "scipy"}
#: The modules that import numba, or what does; they are themselves imported only where a pipeline can use them.
COMPILED = {ROOT / "app/dsp/fused" / f"{name}.py" for name in ("abreast", "compiling", "grouping", "kernel")}
CORE = sorted({*(ROOT / "app/dsp").rglob("*.py")} - COMPILED)


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


def loaded_by(statement: str) -> set[str]:
    """Top-level names of what a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(ran.stdout)}


@pytest.mark.parametrize("statement", ["import app", "import " + ", ".join(map(dotted, CORE))])
def test_the_core_loads_neither_faust_nor_the_web_stack(statement):
    assert not loaded_by(statement) & HEAVY


def test_the_wire_contract_needs_no_faust():
    assert not loaded_by("import " + ", ".join(map(dotted, modules("app/wire")))) & HEAVY


def test_what_is_known_of_sensors_needs_just_a_redis_client():
    assert not loaded_by("import app.sensors.described") & (HEAVY - {"redis", "pydantic", "pydantic_settings"})


def test_a_cold_function_loads_no_faust_web_stack_command_line_or_scipy():
    assert not loaded_by("import app.serverless.handler") & BESIDE_A_FUNCTION


@pytest.mark.parametrize("path", modules("app/dsp"), ids=dotted)
def test_the_core_imports_only_numbers(path):
    for name in imports(path):
        top = name.split(".")[0]
        allowed = top in {"numpy", "scipy", "msgspec", "pywt"} or top in sys.stdlib_module_names
        allowed |= path in COMPILED and top in {"numba", "llvmlite"}
        assert allowed or name == "app.dsp" or name.startswith("app.dsp."), f"{dotted(path)} imports {name}"


#: No clock, I/O, logging or await.
IMPURE = {"time", "datetime", "logging", "asyncio", "threading", "random", "socket", "subprocess", "os", "io", "pickle"}


@pytest.mark.parametrize("path", modules("app/dsp"), ids=dotted)
def test_the_core_has_no_clock_io_logging_or_await(path):
    assert not {name.split(".")[0] for name in imports(path)} & IMPURE
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "exec"}


@pytest.mark.parametrize(
    ("package", "allowed"), [("app", {"app"}), ("tables", {"app", "tables"}), ("agents", {"app", "tables", "agents"})]
)
def test_each_layer_knows_only_those_below(package, allowed):
    for path in modules(package):
        found = {name.split(".")[0] for name in imports(path)} & OURS
        assert found <= allowed, f"{dotted(path)} imports {found - allowed}"


@pytest.mark.parametrize("package", sorted(OURS))
def test_the_packages_are_ours(package):
    """PyTables is called `tables` too, and an SDK `agents`."""
    program = f"import importlib.util as u; print(u.find_spec({package!r}).origin)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(ran.stdout.strip()).resolve() == (ROOT / package / "__init__.py").resolve()


@pytest.mark.parametrize("package", sorted(OURS))
def test_no_file_holds_too_much(package):
    long = {dotted(path): len(path.read_text().splitlines()) for path in modules(package)}
    assert not {name: lines for name, lines in long.items() if lines > 500}
