"""Mutation testing of what decides: `make mutate`, or `run.py decide` for one module.

mutmut breaks the code in one small way after the other and runs the tests that reach it; a change that no test notices
has survived. This builds the folder that it works in, reads what came of it and compares that with `survivors.toml`.
Non-zero if a score is too low, a survivor is not explained there, an entry there is out of date, or a function was
left out.
`cd build/mutation && ../../.venvs/mutation/bin/mutmut browse` shows it all.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import libcst as cst

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "mutation"
MODULES = ("decide", "condemning", "subflows", "resuming", "matter", "guards", "weigh")
TESTS = ("__init__.py", "spec.py", "test_decide*.py", "test_guards.py", "test_lag.py", "test_resuming.py")
TOO_SLOW = {"test_decide_properties.py", "test_decide_graph.py"}  # minutes, where each mutant has a second
MINIMUM = 95.0  # percent
NOTES = tomllib.loads(Path(__file__).with_name("survivors.toml").read_text())
KILLED = {"killed", "timeout", "segfault"}
SETTINGS = """[mutmut]
source_paths =
    reconciler
only_mutate =
    {modules}
pytest_add_cli_args =
    -p
    no:cacheprovider
    --assert=plain
pytest_add_cli_args_test_selection =
    {tests}
use_git_change_detection = false
"""


@dataclass(frozen=True)
class Mutant:
    name: str  # mutmut's: "reconciler.guards.xǁWatchmanǁhold__mutmut_3"
    status: str

    @property
    def function(self) -> str:
        """Write "guards.Watchman.hold"."""
        module, mangled = self.name.removeprefix("reconciler.").split(".", 1)
        function = mangled.rpartition("__mutmut_")[0]
        return f"{module}." + (function[2:].replace("ǁ", ".") if function.startswith("xǁ") else function[2:])

    @property
    def module(self) -> str:
        return self.function.split(".")[0]

    @property
    def is_killed(self) -> bool:
        return self.status in KILLED


@dataclass(frozen=True)
class Survivor:
    """The changed lines of a mutant that lives, and why nobody could tell."""

    function: str
    was: str
    now: str
    why: str = ""

    @property
    def change(self) -> tuple[str, str, str]:
        return self.function, self.was, self.now


class Properties(cst.CSTTransformer):
    """mutmut leaves decorated functions alone: properties are written in the long form that it can change."""

    def leave_FunctionDef(  # noqa: N802 - libcst's name
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.FlattenSentinel[cst.BaseStatement]:
        decorators = [one.decorator for one in original_node.decorators]
        if not (len(decorators) == 1 and isinstance(decorators[0], cst.Name) and decorators[0].value == "property"):
            return updated_node
        name = updated_node.name.value
        plain = updated_node.with_changes(decorators=[])
        return cst.FlattenSentinel([plain, cst.parse_statement(f"{name} = property({name})")])


def prepare(modules: Sequence[str]) -> None:
    """Make a folder of its own: the working tree may change while mutmut runs, and need not see what it writes."""
    shutil.rmtree(PLACE, ignore_errors=True)
    shutil.copytree(ROOT / "reconciler", PLACE / "reconciler", ignore=shutil.ignore_patterns("__pycache__"))
    for module in modules:
        path = PLACE / "reconciler" / f"{module}.py"
        path.write_text(cst.parse_module(path.read_text()).visit(Properties()).code)
    (PLACE / "tests").mkdir()
    tests = sorted(path for pattern in TESTS for path in (ROOT / "tests").glob(pattern) if path.name not in TOO_SLOW)
    for path in tests:
        shutil.copy(path, PLACE / "tests")
    shutil.copy(ROOT / "pyproject.toml", PLACE)
    names = {
        "modules": [f"reconciler/{module}.py" for module in modules],
        "tests": [f"tests/{path.name}" for path in tests if path.name.startswith("test_")],
    }
    settings = SETTINGS.format(**{key: "\n    ".join(lines) for key, lines in names.items()})
    (PLACE / "setup.cfg").write_text(settings)


def mutmut(*arguments: str) -> str:
    """Run it and give what it printed. Exits with that if it fails."""
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    ended = subprocess.run(command, cwd=PLACE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ended.returncode:
        sys.exit(f"mutmut {' '.join(arguments)} failed:\n{ended.stdout.replace(chr(13), chr(10))[-5000:]}")
    return ended.stdout


def mutants() -> Iterator[Mutant]:
    for line in mutmut("results", "--all", "true").splitlines():
        name, _, status = line.strip().partition(": ")
        if "__mutmut_" in name:
            yield Mutant(name, status)


def survivor(mutant: Mutant) -> Survivor:
    diff = mutmut("show", mutant.name).splitlines()
    lines = [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    was, now = ("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return Survivor(mutant.function, was, now)


def functions(module: str) -> Iterator[str]:
    """Name every function and method of a module, as its source has them."""
    for node in ast.parse((PLACE / "reconciler" / f"{module}.py").read_text()).body:
        for one in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(one, ast.FunctionDef):
                yield ".".join((module, node.name, one.name) if isinstance(node, ast.ClassDef) else (module, one.name))


def score(some: Sequence[Mutant]) -> float:
    return 100 * sum(mutant.is_killed for mutant in some) / len(some) if some else 0.0


def table(module: str, found: Sequence[Mutant]) -> None:
    print(f"\n{'reconciler/' + module + '.py':44}{'mutants':>8}{'killed':>8}{'late':>8}{'survived':>9}{'score':>9}")
    names = [*functions(module), ""]
    for name in names:
        some = [one for one in found if one.function == name or (not name and one.module == module)]
        late, killed = sum(one.status == "timeout" for one in some), sum(one.is_killed for one in some)
        percent = f"{score(some):.1f} %" if some else "-"
        title = name.partition(".")[2] or "together"
        print(f"  {title:42}{len(some):8}{killed:8}{late:8}{len(some) - killed:9}{percent:>9}")


def explanations(modules: Sequence[str]) -> list[Survivor]:
    """Read the entries of survivors.toml; one may explain several changes of the same line."""
    return [
        Survivor(entry["function"], entry["was"], now, entry["why"])
        for entry in NOTES.get("survivor", ())
        for now in entry["now"]
        if entry["function"].split(".")[0] in modules
    ]


def faults(modules: Sequence[str], found: Sequence[Mutant], living: Sequence[Survivor]) -> Iterator[str]:
    """Say what is wrong, one sentence each."""
    changed = {mutant.function for mutant in found}
    left_alone = {name for name in NOTES["nothing_to_change"] if name.split(".")[0] in modules}
    for module in modules:
        percent = score([mutant for mutant in found if mutant.module == module])
        if percent < MINIMUM:
            yield f"the score of {module}.py is {percent:.1f} %, below {MINIMUM} %"
        yield from (f"{name} has no mutant" for name in functions(module) if name not in changed | left_alone)
    yield from (f"{name} has mutants: take it out of nothing_to_change" for name in sorted(left_alone & changed))
    yield from (f"no reason is given for {one.function}" for one in explanations(modules) if not one.why.strip())
    known, now = {one.change for one in explanations(modules)}, {one.change for one in living}
    yield from (f"this entry of survivors.toml is no survivor: {' | '.join(change)}" for change in sorted(known - now))
    yield from (f"a survivor is not explained: {' | '.join(change)}" for change in sorted(now - known))


def show(living: Iterable[Survivor], reasons: Mapping[tuple[str, str, str], str]) -> None:
    for one in living:
        print(f"\n{one.function}\n  - {one.was}\n  + {one.now}\n  {reasons.get(one.change, 'NOT EXPLAINED')}")


def main() -> int:
    modules = sys.argv[1:] or list(MODULES)
    prepare(modules)
    mutmut("run", "--max-children", str(os.cpu_count() or 2))
    found = list(mutants())
    for module in modules:
        table(module, found)
    living = [survivor(mutant) for mutant in found if not mutant.is_killed]
    print(f"\nSurvivors: {len(living)}")
    show(living, {one.change: one.why for one in explanations(modules)})
    wrong = list(faults(modules, found, living))
    print("\n" + "\n".join(f"FAULT: {sentence}" for sentence in wrong) if wrong else "\nNo survivor without a reason.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
