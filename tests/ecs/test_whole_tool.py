"""The whole tool over a fake AWS and a fake Prefect: as processes, as operators run it."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.ecs.fake import ACCOUNT, API_KEY, DEFAULT_KEY, FakeAws, FaultKind
from tests.ecs.test_secrets import remembered
from tests.ecs.tool import PREFECT_KEY, PrefectOverHttp, Tool, scope
from tests.rigs.daemon import DaemonProcess
from tests.rigs.polling import wait_until


class TestCheck:
    def test_all_is_well(self, tool: Tool, aws: FakeAws, home: str) -> None:
        done = tool("check", scopes=scope(aws))
        assert (done.returncode, done.stderr) == (0, "")
        assert "scope 'prod' (ecs)\n  mapped to: work_pools pool\n" in done.stdout
        assert f'  identity: {home}; pin it with  identity = "{home}"\n' in done.stdout
        assert "problem" not in done.stdout

    def test_missing_rights_are_named_with_the_policy(self, tool: Tool, aws: FakeAws, home: str) -> None:
        aws.denied = {"ecs:DescribeTasks", "ecs:ListTasks"}
        done = tool("check", scopes=scope(aws))
        assert done.returncode == 1
        words = "problem: missing rights: ecs:DescribeTasks on cluster default, ecs:ListTasks on cluster default\n"
        assert words in done.stdout
        policy = json.loads(done.stdout[done.stdout.index("      {") : done.stdout.index("\n      }\n") + 8])
        assert policy["Version"] == "2012-10-17"
        aws.denied = set()
        aws.policy(policy)
        assert tool("check", scopes=scope(aws)).returncode == 0, "what it prints is enough"

    def test_a_role_that_is_denied(self, tool: Tool, aws: FakeAws) -> None:
        done = tool("check", scopes=scope(aws, role_arn=f"arn:aws:iam::{ACCOUNT}:role/reader"))
        assert done.returncode == 1
        assert "is not authorized to perform: sts:AssumeRole" in done.stdout
        assert "allow it in their policy, and name their principal in the role's trust policy" in done.stdout

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"clusters": ["prod"]}, "cluster 'prod' does not exist in us-east-1 of account 123456789012: see the "),
            ({"region": "eu-west-1"}, "cluster 'default' does not exist in eu-west-1 of account 123456789012: see "),
        ],
    )
    def test_the_wrong_place(self, tool: Tool, aws: FakeAws, options: dict[str, Any], words: str) -> None:
        done = tool("check", scopes=scope(aws, **options))
        assert done.returncode == 1
        assert done.stdout.count(words) == 1

    def test_a_pin_that_does_not_fit(self, tool: Tool, aws: FakeAws, home: str) -> None:
        pin = home.replace("default", "other")
        done = tool("check", scopes=scope(aws, f'work_pools = ["pool"]\nidentity = "{pin}"'))
        assert done.returncode == 1
        assert f"its identity is '{home}', but the configuration pins '{pin}'" in done.stdout

    def test_no_region(self, tool: Tool, aws: FakeAws) -> None:
        options = f'[[scopes]]\nname = "prod"\nadapter = "ecs"\noptions = {{ endpoint_url = "{aws.url}" }}\n'
        done = tool("check", scopes=options)
        assert done.returncode == 1
        assert done.stdout.count("no AWS region is known: set the option `region`, or AWS_REGION, or name the ") == 1

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"cluster": "prod"}, "scope 'prod': adapter 'ecs' has no option 'cluster'; the nearest is 'clusters'"),
            ({"clusters": []}, "scope 'prod': option 'clusters' must be a list of texts that are not empty"),
            ({"endpoint_url": "aws"}, "scope 'prod': option 'endpoint_url' must begin with http:// or https://"),
            ({"endpoint_url": "http://["}, "scope 'prod': option 'endpoint_url' must begin with http:// or https://"),
        ],
    )
    def test_options_are_a_matter_of_configuration(
        self, tool: Tool, aws: FakeAws, options: dict[str, Any], words: str
    ) -> None:
        done = tool("check", scopes=scope(aws, **options))
        assert done.returncode == 78
        assert words in done.stderr

    def test_an_sdk_that_is_not_installed(self, tool: Tool, aws: FakeAws, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['boto3'] = None\n")
        tool.variables = {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}
        done = tool("check", scopes=scope(aws))
        assert done.returncode == 78
        assert "adapter 'ecs' needs its SDK: pip install 'prefect-reconciler[aws]'" in done.stderr


class TestPasses:
    def test_a_zombie_is_settled(self, tool: Tool, aws: FakeAws, home: str, prefect: PrefectOverHttp) -> None:
        alive = aws.task(home, uuid4())
        dead = aws.task(home, uuid4()).stop(exits={"prefect": 137}, ago=600)
        runs = [prefect.run(task) for task in (alive, dead)]
        said = tool.document(scopes=scope(aws))
        [told] = said["scopes"]
        assert (told["name"], told["adapter"], told["identity"]) == ("prod", "ecs", home)
        assert [prefect.fake.runs[run]["state_type"] for run in runs] == ["RUNNING", "CRASHED"]
        assert API_KEY not in json.dumps(said)

    def test_both_kinds_of_pools_are_ours(self, tool: Tool, aws: FakeAws, home: str, prefect: PrefectOverHttp) -> None:
        """By the worker's label, and, where nobody is there to label a run, by the pool's type."""
        prefect.fake.pools = {"hybrid": "ecs", "push": "ecs:push", "other": "kubernetes", "third": "docker"}
        tasks = [aws.task(home, uuid4()) for _ in range(3)]
        ours = {
            prefect.run(tasks[0], "hybrid", "ecs"),
            prefect.run(tasks[1], "hybrid", None),
            prefect.run(tasks[2], "push", None),
        }
        others = {prefect.run("ns:job", "other", "kubernetes"), prefect.run("host:abc", "third", None)}
        said = tool.document("--dry-run", scopes=scope(aws, ""))
        verdicts = {row["id"]: row["verdict"] for row in said["runs"]}
        assert {run: verdicts.get(run) for run in ours} == dict.fromkeys(ours, "HEALTHY")
        assert {verdicts.get(run) for run in others} == {"UNMANAGED"}
        assert "every run of worker type ecs, ecs:push" in tool("check", scopes=scope(aws, "")).stdout

    def test_a_pin_that_does_not_fit_settles_nothing(
        self, tool: Tool, aws: FakeAws, home: str, prefect: PrefectOverHttp
    ) -> None:
        run = prefect.run(aws.task(home, uuid4()).stop(exits={"prefect": 137}, ago=600))
        pin = home.replace("us-east-1", "us-east-2")
        done = tool(scopes=scope(aws, f'work_pools = ["pool"]\nidentity = "{pin}"'))
        assert done.returncode == 1
        assert prefect.fake.runs[run]["state_type"] == "RUNNING"


class TestDeadline:
    @pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.DRIP])
    def test_an_endpoint_that_does_not_answer(
        self, tool: Tool, aws: FakeAws, home: str, prefect: PrefectOverHttp, kind: FaultKind
    ) -> None:
        """The deadline of a look is 3 s; then the process ends at once, whatever still hangs."""
        prefect.run(aws.task(home, uuid4()))
        aws.fault(kind)
        done = tool(scopes=scope(aws))
        assert done.returncode == 1
        assert re.search(r"timed out after [23]|did not answer within 3 s", done.stdout), done.stdout
        assert 3 <= tool.took < 7

    def test_a_process_for_credentials_that_does_not_end(
        self, tool: Tool, aws: FakeAws, home: str, prefect: PrefectOverHttp, tmp_path: Path
    ) -> None:
        prefect.run(aws.task(home, uuid4()))
        (tmp_path / "config").write_text("[profile p]\ncredential_process = sleep 25\n")
        tool.variables = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
        done = tool(scopes=scope(aws, profile="p"))
        assert done.returncode == 1
        assert tool.took < 7

    def test_no_credentials_at_all(self, tool: Tool, aws: FakeAws, home: str, prefect: PrefectOverHttp) -> None:
        prefect.run(aws.task(home, uuid4()))
        tool.variables = dict.fromkeys(DEFAULT_KEY.environment, "")
        done = tool(scopes=scope(aws))
        assert done.returncode == 1
        assert "it found no credentials; give some: a task's or instance's role, AWS_* variables" in done.stdout
        assert tool.took < 5


def test_secrets_are_nowhere(
    aws: FakeAws, home: str, prefect: PrefectOverHttp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon at debug level, with a zombie, failures of each kind, and credentials that are renewed."""
    given = remembered(aws, monkeypatch)
    session = aws.access_key(expires=timedelta(hours=1))
    role = aws.role(f"arn:aws:iam::{ACCOUNT}:role/reader")
    doomed = aws.task(home, uuid4())
    runs = [prefect.run(aws.task(home, uuid4())), prefect.run(doomed), prefect.run(None)]
    daemon = DaemonProcess(
        prefect.url,
        tmp_path / "d",
        scope(aws, role_arn=role),
        daemon={"log_level": "debug"},
        grace="1s",
        confirm_after="1s",
        scope_deadline="1s",
        mode="settle",
    )
    daemon.environment = session.environment | {"PREFECT_API_KEY": PREFECT_KEY}
    with daemon.start().ready():
        for kind in (FaultKind.TRUNCATED, FaultKind.EXPIRED, FaultKind.DENIED):
            aws.fault(kind)
            daemon.wait_for_passes(1)
            aws.heal()
            daemon.wait_for_passes(1)
        doomed.stop(exits={"prefect": 137}, ago=60)
        wait_until(lambda: prefect.fake.runs[runs[1]]["state_type"] == "CRASHED", "the zombie to be settled", 20)
        daemon.wait_for_passes(1)
        pages = [daemon.get(path).text for path in ("/", "/status", "/metrics", "/readyz", "/healthz")]
        assert daemon.notify is not None
        told = daemon.notify.lines()
        assert daemon.stop()[0] == 0
    assert aws.calls["sts:AssumeRole"] > 2
    files = {path: path.read_bytes().decode(errors="replace") for path in daemon.folder.rglob("*") if path.is_file()}
    log = files[daemon.log]
    assert '"debug"' in log, "the debug level was on"
    assert "Traceback" not in log
    assert not [record for record in daemon.records() if str(record.get("logger", "")).startswith(("boto", "urllib3"))]
    secrets = {API_KEY, PREFECT_KEY, DEFAULT_KEY.secret, *given}
    everything = [*files.values(), *pages, *told, json.dumps(prefect.fake.logs), json.dumps(prefect.fake.runs)]
    for secret in secrets:
        assert not [text for text in everything if secret in text]
