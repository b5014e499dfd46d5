"""What is refused, in which words; and that every problem is told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from reconciler.model import RunMapping
from reconciler.plan import Mode, Policy
from reconciler.settings import (
    ConfigError,
    Loaded,
    PolicySettings,
    deadline_problem,
    load,
    longest_cycle,
    longest_silence,
    watchdog_problem,
    worst_case_detection,
)

API = '[api]\nurl = "http://127.0.0.1:4200/api"\n'


class Place:
    """A folder with a configuration file, and an environment in which nothing else is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "reconciler.toml"

    def load(self, text: str = API, **environ: str) -> Loaded:
        self.file.write_text(text, encoding="utf-8")
        return load(self.file, {"HOME": str(self.folder), **environ})

    def problems(self, text: str = API, **environ: str) -> Sequence[str]:
        with pytest.raises(ConfigError) as refused:
            self.load(text, **environ)
        assert str(refused.value).splitlines() == list(refused.value.problems)
        assert refused.value.file == self.file
        return refused.value.problems

    def problem(self, text: str = API, **environ: str) -> str:
        (only,) = self.problems(text, **environ)
        return only


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_defaults_are_the_policys(place: Place) -> None:
    settings = place.load().settings
    assert settings.to_policy() == Policy()
    assert settings.policy.scope_deadline == timedelta(seconds=20)
    assert settings.api.timeout == timedelta(seconds=30)
    assert settings.api.retry_for == timedelta(seconds=45)
    assert settings.api.tls_verify
    assert settings.scopes == ()


def test_an_operator_can_set_every_field_of_the_policy() -> None:
    flags = {"only_pools", "only_runs", "accepted_losses"}
    assert {field.name for field in fields(Policy)} - flags == set(PolicySettings.model_fields) - {"scope_deadline"}


def test_the_policy_of_a_pass(place: Place) -> None:
    deployment = "B2C6A4D1-0000-4000-8000-00000000000F"
    settings = place.load(
        f'{API}[policy]\nmode = "observe"\ngrace = "1m"\nbreaker_share = 1\nexclude_tags = ["keep"]\n'
        f'exclude_deployments = ["{deployment}"]\n'
    ).settings
    assert settings.to_policy() == Policy(
        mode=Mode.OBSERVE,
        grace=timedelta(minutes=1),
        breaker_share=1.0,
        exclude_tags=frozenset({"keep"}),
        exclude_deployments=frozenset({str(UUID(deployment))}),  # as `decide` writes ids
    )


def test_a_scope_and_its_mapping(place: Place) -> None:
    (scope,) = place.load(
        f'{API}[[scopes]]\nname = "prod-7"\nadapter = "docker"\nwork_pools = ["a", "b"]\nworkers = ["w"]\n'
        'exclusive = true\nidentity = "ABCD"\noptions = { base_url = "unix:///x", deep = { n = 1 } }\n'
    ).settings.scopes
    assert (scope.name, scope.adapter, scope.identity) == ("prod-7", "docker", "ABCD")
    assert scope.options == {"base_url": "unix:///x", "deep": {"n": 1}}
    assert scope.mapping({"docker"}) == RunMapping(
        work_pools=frozenset({"a", "b"}),
        workers=frozenset({"w"}),
        worker_types=frozenset({"docker"}),
        exclusive=True,
    )


def test_settings_are_frozen(place: Place) -> None:
    with pytest.raises(ValueError, match="frozen"):
        place.load().settings.policy.grace = timedelta()


POLICY_PROBLEMS: Mapping[str, Sequence[str]] = {
    "grace = 30": ("policy.grace: ", "30 has no unit", 'write "30s"'),
    'grace = "0s"': ("policy.grace: ", "longer than zero"),
    'confirm_after = "0s"': ("policy.confirm_after: ", "longer than zero"),
    'scope_deadline = "0ms"': ("policy.scope_deadline: ", "longer than zero"),
    'quiet = "-5s"': ("policy.quiet: ", "negative"),
    'quiet = "soon"': ("policy.quiet: ", '"soon" is not a duration', '"1h30m"'),
    "quiet = []": ("policy.quiet: ", "is not a duration"),
    'grase = "30s"': ("policy.grase: ", "did you mean 'grace'?"),
    'url = "http://h/api"': ("policy.url: ", "'url' belongs under [api]"),
    'zzzz = "30s"': ("policy.zzzz: ", "no such setting", "known are mode, grace"),
    'mode = "obsrve"': ("policy.mode: ", "must be 'settle' or 'observe'", '"obsrve"'),
    'breaker_count = "many"': ("policy.breaker_count: ", "whole number", '"many"'),
    "breaker_count = 1.5": ("policy.breaker_count: ", "whole number", "1.5"),
    "breaker_count = 0": ("policy.breaker_count: ", "at least 1"),
    "max_settlements = 0": ("policy.max_settlements: ", "at least 1"),
    "breaker_share = 0": ("policy.breaker_share: ", "more than 0"),
    "breaker_share = 1.5": ("policy.breaker_share: ", "at most 1", "1.5"),
    "breaker_share = nan": ("policy.breaker_share: ", "must be a number", "nan"),
    "breaker_share = []": ("policy.breaker_share: ", "must be a number"),
    'exclude_tags = "a"': ("policy.exclude_tags: ", "must be a list", 'write ["a"]'),
    'exclude_tags = ["a", ""]': ("policy.exclude_tags: ", "item 2 must not be empty"),
    "exclude_tags = [5]": ("policy.exclude_tags: ", "item 1 must be text", "not 5"),
    'exclude_deployments = ["nightly"]': ("policy.exclude_deployments: ", "item 1", "not its id", "deployment inspect"),
    'settle_zero = "5s"': ("policy.settle_zero: ", "5s is shorter than policy.settle_failed (10s)", "code 0"),
    'settle_failed = "1m"': ("policy.settle_zero: ", "30s is shorter than policy.settle_failed (1m)"),
}


@pytest.mark.parametrize("line", POLICY_PROBLEMS)
def test_refuses_a_policy(place: Place, line: str) -> None:
    problem = place.problem(f"{API}[policy]\n{line}\n")
    assert problem.startswith(POLICY_PROBLEMS[line][0])
    assert [words for words in POLICY_PROBLEMS[line] if words not in problem] == []
    for code in ("type=", "errors.pydantic.dev", "Value error", "_parsing", "_type"):
        assert code not in problem


API_PROBLEMS: Mapping[str, Sequence[str]] = {
    "": ("api.url: no Prefect API address: set PREFECT_API_URL or [api] url",),
    '[api]\nurl = "127.0.0.1:4200"': ("api.url: ", 'did you mean "http://127.0.0.1:4200/api"?'),
    "[api]\nurl = 5": ("api.url: ", "text in quotes"),
    "api = 5": ("api: ", "must be a table; write [api]"),
    f'{API}timeout = "0s"': ("api.timeout: ", "longer than zero"),
    f"{API}retry_for = 45": ("api.retry_for: ", 'write "45s"'),
    f'{API}tls_verify = "maybe"': ("api.tls_verify: ", "true or false"),
    f"{API}headers = [1]": ("api.headers: ", "table of text"),
    f"{API}headers = {{ X-A = 5 }}": ("api.headers.X-A: ", "text in quotes"),
    f"{API}key_file = 5": ("api.key_file: ", "a path in quotes"),
    f'{API}key = ""': ("api.key: ", "must not be empty"),
    f'{API}ca_file = "no.pem"': ("api.ca_file: there is no file ", "no.pem"),
    f'{API}key_file = "nokey"': ("api.key_file: ", "nokey does not exist", "0600"),
    f'{API}key_file = "."': ("api.key_file: ", "cannot be read: Is a directory"),
    f'{API}auth_string_file = "nokey"': ("api.auth_string_file: ", "does not exist"),
    f"state_dir = 5\n{API}": ("state_dir: ", "a path in quotes"),
    f'grace = "30s"\n{API}': ("grace: ", "'grace' belongs under [policy]"),
    f'{API}[polcy]\ngrace = "30s"': ("polcy: ", "did you mean 'policy'?"),
    f'{API}state_dir = "/x"': ("api.state_dir: ", "belongs at the top of the file"),
    f"{API}[scopes]\nname = 'x'": ("scopes: ", "write [[scopes]]"),
    f"scopes = [1]\n{API}": ("scopes[1]: ", "write [[scopes]]"),
}


@pytest.mark.parametrize("text", API_PROBLEMS)
def test_refuses_an_api_or_a_table(place: Place, text: str) -> None:
    problem = place.problem(text)
    assert [words for words in API_PROBLEMS[text] if words not in problem] == []


DOCKER = '[[scopes]]\nadapter = "docker"\n'
SCOPE_PROBLEMS: Mapping[str, Sequence[str]] = {
    DOCKER: ("scopes[1].name: is missing",),
    '[[scopes]]\nname = "x"\n': ("scopes[x].adapter: is missing",),
    f'{DOCKER}name = "a b"\n': ("scopes[a b].name: ", "letters, digits", '"a b"'),
    f'{DOCKER}name = ""\n': ("scopes[1].name: ", "may hold only"),
    f'{DOCKER}name = "x"\nwork_pools = "p"\n': ("scopes[x].work_pools: ", "must be a list", 'write ["p"]'),
    f'{DOCKER}name = "x"\ntags = [""]\n': ("scopes[x].tags: ", "item 1 must not be empty"),
    f'{DOCKER}name = "x"\nwork_pool = ["p"]\n': ("scopes[x].work_pool: ", "did you mean 'work_pools'?"),
    f'{DOCKER}name = "x"\nexclusive = "perhaps"\n': ("scopes[x].exclusive: ", "true or false"),
    f'{DOCKER}name = "x"\noptions = "o"\n': ("scopes[x].options: ", "must be a table"),
    f'{DOCKER}name = "x"\n{DOCKER}name = "x"\n': ("scopes[x].name: 2 scopes have this name",),
}


@pytest.mark.parametrize("text", SCOPE_PROBLEMS)
def test_refuses_a_scope(place: Place, text: str) -> None:
    problem = place.problem(API + text)
    assert [words for words in SCOPE_PROBLEMS[text] if words not in problem] == []


def two_scopes(one: str, other: str, *, adapters: tuple[str, str] = ("docker", "docker")) -> str:
    tables = zip(("one", "two"), adapters, (one, other), strict=True)
    return API + "".join(
        f'[[scopes]]\nname = "{name}"\nadapter = "{adapter}"\nexclusive = true\n{mapping}\n'
        for name, adapter, mapping in tables
    )


@pytest.mark.parametrize(
    "text",
    [
        two_scopes('work_pools = ["a"]', 'work_pools = ["b", "a"]'),
        two_scopes('work_pools = ["a"]', 'workers = ["w"]'),
        two_scopes('work_pools = ["a"]', 'work_queues = ["a"]', adapters=("docker", "process")),
        two_scopes('work_pools = ["a"]\ntags = ["x"]', 'work_pools = ["a"]\ntags = ["y"]'),
    ],
)
def test_refuses_exclusive_scopes_that_can_share_a_run(place: Place, text: str) -> None:
    problem = place.problem(text)
    assert problem.startswith("scopes[two].exclusive: scopes one and two are both exclusive")
    assert "nothing in common" in problem
    assert place.load(text.replace("exclusive = true", "exclusive = false", 1)).settings.scopes


@pytest.mark.parametrize("keys", ["", 'tags = ["a"]\n'])
def test_refuses_exclusive_without_saying_which_runs(place: Place, keys: str) -> None:
    problem = place.problem(f'{API}{DOCKER}name = "x"\nexclusive = true\n{keys}')
    assert problem.startswith("scopes[x].exclusive: ")
    assert "give the scope work_pools, work_queues or workers" in problem


@pytest.mark.parametrize(
    "text",
    [
        two_scopes('work_pools = ["a"]', 'work_pools = ["b"]'),
        two_scopes('work_queues = ["a"]', 'work_queues = ["b"]'),
        two_scopes('work_pools = ["a"]\nworkers = ["v"]', 'work_pools = ["a"]\nworkers = ["w"]'),
    ],
)
def test_accepts_exclusive_scopes_that_share_nothing(place: Place, text: str) -> None:
    assert len(place.load(text).settings.scopes) == 2


def test_every_problem_at_once(place: Place) -> None:
    text = (
        '[policy]\ngrace = 30\nconfirm_afer = "1s"\nsettle_zero = "5s"\n'
        f'[api]\nkey_file = "nokey"\n{DOCKER}\n{DOCKER}name = "x"\nexclusive = true\nwork_pools = ["a"]\n'
        f'{DOCKER}name = "y"\nexclusive = true\nwork_pools = ["a"]\n'
    )
    problems = place.problems(text, RECONCILER_POLICY__QUIET="soon", RECONCILER_POLICY__GRASE="1s")
    paths = {problem.split(": ")[0] for problem in problems}
    assert paths == {
        "policy.grace",
        "policy.confirm_afer",
        "policy.settle_zero",
        "policy.quiet",
        "RECONCILER_POLICY__GRASE",
        "api.url",
        "api.key_file",
        "scopes[1].name",
        "scopes[y].exclusive",
    }
    assert len(problems) == len(paths)


def test_one_mistake_is_told_once(place: Place) -> None:
    assert "is not a duration" in place.problem(f'{API}[policy]\nsettle_failed = "soon"\nsettle_zero = "5s"\n')


def test_a_problem_names_its_source(place: Place) -> None:
    in_file = place.problem(f"{API}[policy]\ngrace = 30\n")
    assert in_file.endswith(f"(file {place.file})")
    in_variable = place.problem(RECONCILER_POLICY__GRACE="30")
    assert in_variable == 'policy.grace: 30 has no unit; write "30s" (environment RECONCILER_POLICY__GRACE)'


def test_worst_case_detection(place: Place) -> None:
    settings = place.load().settings
    assert worst_case_detection(settings, timedelta(seconds=30)) == {
        "exited_failed": timedelta(seconds=40),
        "exited_zero": timedelta(seconds=60),
        "exited_starting": timedelta(seconds=75),
        "exited_unseen": timedelta(seconds=230),
        "gone": timedelta(seconds=70),
        "gone_unsighted": timedelta(seconds=240),
        "subflow_left": timedelta(seconds=240),
    }
    assert worst_case_detection(settings)["gone"] == timedelta(seconds=40)
    quick = place.load(f'{API}[policy]\nquiet = "0s"\n').settings
    assert worst_case_detection(quick)["gone_unsighted"] == timedelta(seconds=40)
    assert worst_case_detection(quick)["exited_unseen"] == timedelta(seconds=45)


class TestDaemon:
    """What only the daemon uses."""

    def test_defaults(self, place: Place) -> None:
        daemon = place.load().settings.daemon
        assert (daemon.interval, daemon.jitter) == (timedelta(seconds=30), timedelta(seconds=1))
        assert daemon.cycle_deadline == timedelta(minutes=2)
        assert (daemon.listen, daemon.address, daemon.log_level) == ("", None, "info")

    @pytest.mark.parametrize(
        ("listen", "expected"),
        [
            ("127.0.0.1:9464", ("127.0.0.1", 9464)),
            ("[::1]:80", ("::1", 80)),
            ("0.0.0.0:1", ("0.0.0.0", 1)),
            ("localhost:65535", ("localhost", 65535)),
        ],
    )
    def test_listen(self, place: Place, listen: str, expected: tuple[str, int]) -> None:
        daemon = place.load(RECONCILER_DAEMON__LISTEN=listen).settings.daemon
        assert daemon.address == expected
        assert str(daemon.address) == listen

    @pytest.mark.parametrize(
        ("listen", "meant"),
        [
            ("9464", "127.0.0.1:9464"),
            (":9464", "127.0.0.1:9464"),
            ("localhost", "localhost:9464"),
            ("127.0.0.1:99999", "127.0.0.1:9464"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("::1:80", "127.0.0.1:80"),
            ("127.0.0.1:9464/metrics", "127.0.0.1:9464"),
            ("user@127.0.0.1:9464", "127.0.0.1:9464"),
        ],
    )
    def test_what_is_no_address(self, place: Place, listen: str, meant: str) -> None:
        problem = place.problem(f'{API}[daemon]\nlisten = "{listen}"\n')
        assert problem.startswith("daemon.listen")
        assert f'is not an address and a port; did you mean "{meant}"?' in problem

    def test_the_ui(self, place: Place) -> None:
        assert place.load(PREFECT_UI_URL="https://ui.example.org/").settings.daemon.ui_url == "https://ui.example.org"
        for wrong in ("ui.example.org", "javascript:alert(1)", "http://user:word@host", "http://a b"):
            problem = place.problem(f'{API}[daemon]\nui_url = "{wrong}"\n')
            assert "is not the address of a web page" in problem

    def test_the_log_level(self, place: Place) -> None:
        assert place.load(RECONCILER_DAEMON__LOG_LEVEL="debug").settings.daemon.log_level == "debug"
        assert "daemon.log_level" in place.problem(f'{API}[daemon]\nlog_level = "loud"\n')

    @pytest.mark.parametrize("key", ["interval", "cycle_deadline"])
    def test_times_that_cannot_be_zero(self, place: Place, key: str) -> None:
        assert "must be longer than zero" in place.problem(f'{API}[daemon]\n{key} = "0s"\n')

    def test_the_watchdog_must_outlast_a_cycle_and_the_wait_before_it(self, place: Place) -> None:
        settings = place.load().settings
        assert longest_cycle(settings) == timedelta(minutes=3, seconds=30)
        assert longest_silence(settings) == timedelta(minutes=4, seconds=1)
        assert watchdog_problem(settings, None) is None
        assert watchdog_problem(settings, timedelta(minutes=5)) is None
        problem = watchdog_problem(settings, timedelta(minutes=3)) or ""
        assert problem.startswith(
            "WatchdogSec of the systemd unit is 3m, but a cycle and the wait before it may last 4m1s"
        )
        slow = place.load(RECONCILER_DAEMON__INTERVAL="10m").settings
        assert watchdog_problem(slow, timedelta(minutes=5)) is not None

    def test_a_deadline_in_which_nothing_could_be_settled(self, place: Place) -> None:
        """The daemon's alone: one pass by hand has no deadline."""
        settings = place.load(f'{API}[daemon]\ncycle_deadline = "60s"\n').settings
        assert "write at least 1m30s, three times confirm_after + scope_deadline" in (deadline_problem(settings) or "")
        assert deadline_problem(place.load().settings) is None
