"""What an operator may write for an ECS scope, and how the region is found."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model import Place
from reconciler.ports import AdapterError, Misconfigured
from reconciler.testing import flow_run
from reconciler_adapters.ecs import EcsScope
from tests.ecs.fake import ACCOUNT, DEFAULT_KEY, REGION, FakeAws

SECRET = "wJalrXUtnFEMI-in-the-wrong-place"
OTHER_ACCOUNT = "999999999999"
ARN = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:cluster/prod"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"

Bind = Callable[..., EcsScope]


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def refused(**options: object) -> str:
    """Why the options are not taken."""
    with pytest.raises(Misconfigured) as caught:
        EcsScope("a", options)
    return str(caught.value)


@pytest.fixture
def bind(aws: FakeAws) -> Bind:
    return lambda **options: EcsScope("a", {"endpoint_url": aws.url, **options})


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write ~/.aws/config."""
    file = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))

    def write(text: str) -> None:
        file.write_text(text)

    return write


class TestForms:
    @pytest.mark.parametrize(
        ("given", "nearest"),
        [
            ("cluster", "clusters"),
            ("regions", "region"),
            ("aws_profile", "profile"),
            ("rolearn", "role_arn"),
            ("externalid", "external_id"),
            ("base_url", "endpoint_url"),
        ],
    )
    def test_an_unknown_option_names_the_nearest(self, given: str, nearest: str) -> None:
        assert (
            refused(**{given: "x"}) == f"scope 'a': adapter 'ecs' has no option '{given}'; the nearest is '{nearest}'"
        )

    @pytest.mark.parametrize("option", ["region", "profile", "role_arn", "external_id", "endpoint_url"])
    @pytest.mark.parametrize("value", ["", 7, None, True, ["x"], {"secret": SECRET}])
    def test_a_text_must_be_one(self, option: str, value: object) -> None:
        shown = "a table" if isinstance(value, dict) else repr(value)
        assert (
            refused(**{option: value}) == f"scope 'a': option '{option}' must be a text that is not empty, not {shown}"
        )

    @pytest.mark.parametrize("value", ["prod", [], [""], ["a", 7], None, {"a": SECRET}, 7])
    def test_clusters_must_be_a_list_of_texts(self, value: object) -> None:
        told = refused(clusters=value)
        assert told.startswith("scope 'a': option 'clusters' must be a list of texts that are not empty, such as ")
        assert SECRET not in told

    @pytest.mark.parametrize(
        "value",
        [
            "a b",
            "a/b",
            "*",
            "é",
            "x\n",
            "a" * 256,
            "arn:aws:ecs:us-east-1:123456789012:cluster/",
            "arn:aws:ecs:us-east-1:12345:cluster/prod",
            "arn:aws:ecs::123456789012:cluster/prod",
            "arn:aws:ecs:us-east-1:123456789012:task/prod",
            "arn:aws:ecs:us-east-1:123456789012:cluster/prod/x",
            "arn:aws:ec2:us-east-1:123456789012:cluster/prod",
            "arn:other:ecs:us-east-1:123456789012:cluster/prod",
        ],
    )
    def test_clusters_must_be_names_or_arns(self, value: str) -> None:
        words = f"scope 'a': option 'clusters' holds '{value}', which is no name or ARN of a cluster"
        assert refused(clusters=["prod", value]) == words

    @pytest.mark.parametrize("value", ["a", "Prod_1", "-", "a" * 255, ARN, ARN.replace("aws", "aws-us-gov", 1)])
    def test_names_and_arns_of_clusters(self, value: str) -> None:
        assert EcsScope("a", {"clusters": [value]}).name == "a"

    def test_an_external_id_is_of_a_role(self) -> None:
        words = "scope 'a': option 'external_id' is of use only together with 'role_arn'"
        assert refused(external_id="lab") == words
        EcsScope("a", {"external_id": "lab", "role_arn": ROLE})

    @pytest.mark.parametrize(
        "url",
        [
            *("x", "127.0.0.1:1", "ftp://host", "http://", "https:///x", "unix:///run/aws"),
            *("http://[", "http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://a b"),
        ],
    )
    def test_an_endpoint_must_be_an_address(self, url: str) -> None:
        words = "scope 'a': option 'endpoint_url' must begin with http:// or https:// and a host"
        assert refused(endpoint_url=url).startswith(words)

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:4566", "https://vpce.example/path/", "HTTP://HOST", "http://[::1]:8"]
    )
    def test_endpoints(self, url: str) -> None:
        assert EcsScope("a", {"endpoint_url": url}).name == "a"

    def test_no_options_are_fine_and_nothing_is_read_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        scope = EcsScope("a", {})
        scope.close()
        assert scope.worker_types == {"ecs", "ecs:push"}
        assert EcsScope.discover() is None


class TestRegion:
    def test_none_is_known(self, bind: Bind) -> None:
        words = "no AWS region is known: set the option `region`, or AWS_REGION, or name the clusters by their ARNs"
        scope = bind()
        with pytest.raises(Misconfigured, match=f"^{words}$"):
            scope.identity(soon())
        assert [(problem.text, problem.optional) for problem in scope.check()] == [(words, False)]

    @pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
    def test_the_environment_names_it(
        self, aws: FakeAws, bind: Bind, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fargate sets AWS_REGION, which boto3 itself does not read."""
        monkeypatch.setenv(name, "eu-west-1")
        away = aws.cluster("default", "eu-west-1")
        assert bind().identity(soon()) == away

    def test_a_profile_names_it(self, aws: FakeAws, bind: Bind, profile: Callable[[str], None]) -> None:
        keys = "\n".join(f"{name.lower()} = {value}" for name, value in DEFAULT_KEY.environment.items())
        profile(f"[default]\nregion = eu-west-1\n[profile south]\nregion = eu-south-1\n{keys}\n")
        aws.cluster("default", "eu-west-1")
        aws.cluster("default", "eu-south-1")
        assert ":eu-west-1:" in bind().identity(soon())
        assert ":eu-south-1:" in bind(profile="south").identity(soon())

    def test_the_option_goes_before_all(
        self, aws: FakeAws, bind: Bind, profile: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Then AWS_REGION, AWS_DEFAULT_REGION, the profile's, and that of a cluster's ARN."""
        profile("[default]\nregion = eu-west-4\n")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        monkeypatch.setenv("AWS_REGION", "eu-west-2")
        for number in (1, 2, 3, 4):
            aws.cluster("default", f"eu-west-{number}")
        assert ":eu-west-1:" in bind(region="eu-west-1").identity(soon())
        assert ":eu-west-2:" in bind().identity(soon())
        monkeypatch.delenv("AWS_REGION")
        assert ":eu-west-3:" in bind().identity(soon())
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        assert ":eu-west-4:" in bind().identity(soon())

    def test_a_cluster_s_arn_names_it(self, aws: FakeAws, bind: Bind) -> None:
        """For those that are named without one too."""
        arns = sorted(aws.cluster(name, "eu-west-1") for name in ("default", "prod"))
        assert bind(clusters=[arns[1]]).identity(soon()) == arns[1]
        assert bind(clusters=["default", arns[1]]).identity(soon()) == ",".join(arns)

    def test_an_arn_keeps_its_own(self, aws: FakeAws, bind: Bind) -> None:
        away = aws.cluster("prod", "eu-west-1")
        assert bind(clusters=[away], region=REGION).identity(soon()) == away

    @pytest.mark.parametrize("region", ["nowhere-9", "us east", "us-east-1/", "é", "a" * 300, "\n"])
    def test_one_that_is_none(self, aws: FakeAws, bind: Bind, region: str) -> None:
        """An operator's mistake, not an answer of AWS; found at once, and ECS is not asked."""
        began = time.monotonic()
        with pytest.raises(Misconfigured, match=r"region"):
            bind(region=region).identity(soon(3))
        assert time.monotonic() - began < 2
        assert not [action for action in aws.calls if action.startswith("ecs:")]

    def test_one_where_the_cluster_is_not(self, bind: Bind) -> None:
        scope = bind(region="eu-west-1")
        words = (
            f"cluster 'default' does not exist in eu-west-1 of account {ACCOUNT}: "
            "see the options `clusters`, `region` and `role_arn`"
        )
        with pytest.raises(Misconfigured, match=f"^{words}$"):
            scope.identity(soon())
        assert [problem.text for problem in scope.check()] == [words]


class TestClusters:
    def test_two_of_a_region(self, aws: FakeAws, bind: Bind) -> None:
        arns = sorted(aws.cluster(name) for name in ("b", "a"))
        scope = bind(clusters=["b", "a"], region=REGION)
        assert scope.identity(soon()) == ",".join(arns)
        assert aws.calls["ecs:DescribeClusters"] == 1

    def test_two_regions_are_both_looked_at(self, aws: FakeAws, bind: Bind) -> None:
        """With one client for each, and one connection's credentials for both."""
        away, home = aws.cluster("prod", "eu-west-1"), aws.cluster("default")
        tasks = [aws.task(arn, flow_run("x").id) for arn in (home, away) for _ in range(2)]
        scope = bind(clusters=[away, "default"], region=REGION)
        assert scope.identity(soon()) == f"{away},{home}"
        runs = [flow_run(task.pid, id=task.run_id) for task in tasks]
        assert {scope.locate(run) for run in runs} == {Place.HERE}
        for _ in range(3):
            seen = scope.observe(runs, soon())
            assert {str(one.condition) for many in seen.observations.values() for one in many} == {"ALIVE"}
        assert aws.calls["ecs:DescribeTasks"] == 2 * 3
        assert clients(scope) == {("sts", REGION), ("ecs", REGION), ("ecs", "eu-west-1")}
        unseen = [flow_run(None, id=task.run_id) for task in tasks]
        found = scope.observe(unseen, soon()).observations
        assert all(found[run.id][0].resource for run in unseen), "by both lists"
        scope.close()

    def test_a_cluster_of_another_account(self, aws: FakeAws, bind: Bind) -> None:
        arn = aws.cluster("default", account=OTHER_ACCOUNT)
        words = (
            f"cluster '{arn}' is not of account {ACCOUNT}, of which the credentials are: "
            "set the option `role_arn` to a role of the cluster's account"
        )
        scope = bind(clusters=["default", arn], region=REGION)
        with pytest.raises(Misconfigured, match=f"^{words}$"):
            scope.identity(soon())
        assert [problem.text for problem in scope.check()] == [words]
        assert aws.calls["ecs:DescribeClusters"] == 0, "nothing was asked of the other account"

    def test_a_cluster_of_another_partition(self, aws: FakeAws, bind: Bind) -> None:
        """It cannot be of the account: no account is in two partitions."""
        aws.cluster("default")
        with pytest.raises(AdapterError, match="DescribeClusters"):
            bind(clusters=[f"arn:aws-cn:ecs:{REGION}:{ACCOUNT}:cluster/default"]).identity(soon())

    def test_two_of_one_name(self, bind: Bind) -> None:
        once = bind(region=REGION).identity(soon())
        assert bind(clusters=["default", "default"], region=REGION).identity(soon()) == once

    def test_a_name_and_the_arn_of_the_same(self, aws: FakeAws, bind: Bind) -> None:
        arn = aws.cluster("default")
        scope = bind(clusters=["default", arn], region=REGION)
        assert scope.identity(soon()) == arn
        seen = scope.observe([flow_run(None)], soon())
        assert [str(one.condition) for many in seen.observations.values() for one in many] == ["GONE"]
        assert aws.calls["ecs:ListTasks"] == 2, "one list of each kind"

    @pytest.mark.parametrize("status", ["INACTIVE", "PROVISIONING", "FAILED"])
    def test_one_that_is_not_at_work(self, aws: FakeAws, bind: Bind, status: str) -> None:
        aws.cluster("old", status=status)
        words = f"cluster 'old' is {status}: take it out of the option `clusters`, or make it anew"
        with pytest.raises(Misconfigured, match=f"^{words}$"):
            bind(clusters=["default", "old"], region=REGION).identity(soon())

    def test_a_hundred_and_more(self, aws: FakeAws, bind: Bind) -> None:
        names = [f"c{number:03}" for number in range(105)]
        arns = [aws.cluster(name) for name in names]
        assert bind(clusters=names, region=REGION).identity(soon()) == ",".join(arns)
        assert aws.calls["ecs:DescribeClusters"] == 2


def clients(scope: EcsScope) -> set[tuple[str, str]]:
    assert scope._connection is not None
    return set(scope._connection._clients)
