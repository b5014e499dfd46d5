"""The settings as frozen pydantic models: every key, its type, its default.

Reading the sources is `sources`; what makes no sense together is refused in `checks`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from reconciler.model import Cause, RunMapping
from reconciler.plan import LONGEST_BACKOFF, Mode, Policy
from reconciler.settings import durations
from reconciler.settings.addresses import Address, listen_address, page_address
from reconciler.settings.api_url import api_url


def _not_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError('must be longer than zero; write for example "10s"')
    return value


def _at_most_an_hour(value: timedelta) -> timedelta:
    if value > LONGEST_BACKOFF:
        raise ValueError('must be at most "1h": it doubles with each time, up to that')
    return value


def _deployment_id(value: object) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise ValueError(
            "names a deployment by something that is not its id; `prefect deployment inspect` prints the id"
        ) from None


def _cause(value: object) -> Cause:
    """The word in any case; what becomes of a subflow's parent is none to be resumed for."""
    words = {cause.lower(): cause for cause in Cause if cause is not Cause.PARENT_ENDED}
    try:
        return words[str(value).lower()]
    except KeyError:
        raise ValueError(f"names a cause that there is not; known are {', '.join(words.values())}") from None


Duration = Annotated[timedelta, BeforeValidator(durations.parse)]
PositiveDuration = Annotated[Duration, AfterValidator(_not_zero)]
Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Names = frozenset[Name]
Secret = Annotated[SecretStr, Field(min_length=1)]

_POLICY = Policy()
_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ApiSettings(BaseModel):
    """How to reach the Prefect API. After `load`, `key` and `auth_string` also hold what their files hold."""

    model_config = _STRICT

    url: Annotated[str, AfterValidator(api_url)] = ""  # `load` refuses to leave it empty
    key_file: Path | None = None
    key: Secret | None = None
    auth_string_file: Path | None = None
    auth_string: Secret | None = None  # "user:password"; wins over a key, as in Prefect's own client
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)  # proxies are opened with these: all are secrets
    tls_verify: bool = True
    ca_file: Path | None = None
    timeout: PositiveDuration = timedelta(seconds=30)
    retry_for: Duration = timedelta(seconds=45)

    def plain_headers(self) -> dict[str, str]:
        """The headers as they are sent."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}

    def secrets(self) -> tuple[str, ...]:
        """Every string that no log may show."""
        held = [secret for secret in (self.key, self.auth_string, *self.headers.values()) if secret is not None]
        plain = [secret.get_secret_value() for secret in held]
        password = self.auth_string.get_secret_value().partition(":")[2] if self.auth_string else ""
        return tuple(text for text in (*plain, password) if text)


class PolicySettings(BaseModel):
    """The operator's part of `reconciler.plan.Policy`, with its defaults, and the adapters' deadline."""

    model_config = _STRICT

    mode: Mode = _POLICY.mode
    grace: PositiveDuration = _POLICY.grace
    confirm_after: PositiveDuration = _POLICY.confirm_after
    settle_failed: Duration = _POLICY.settle_failed
    settle_zero: Duration = _POLICY.settle_zero
    settle_starting: Duration = _POLICY.settle_starting
    quiet: Duration = _POLICY.quiet
    report_after: Duration = _POLICY.report_after
    cancelling_limit: PositiveDuration = _POLICY.cancelling_limit
    subflow_grace: Duration = _POLICY.subflow_grace
    crash_pending: bool = _POLICY.crash_pending
    finish_cancelling: bool = _POLICY.finish_cancelling
    settle_task_runs: bool = _POLICY.settle_task_runs
    label_settled: bool = _POLICY.label_settled
    resume_max: Annotated[int, Field(ge=0, le=100)] = _POLICY.resume_max
    resume_work_pools: Names = _POLICY.resume_work_pools
    resume_tags: Names = _POLICY.resume_tags
    resume_causes: frozenset[Annotated[Cause, BeforeValidator(_cause)]] = _POLICY.resume_causes
    resume_backoff: Annotated[Duration, AfterValidator(_at_most_an_hour)] = _POLICY.resume_backoff
    breaker_count: Annotated[int, Field(ge=1)] = _POLICY.breaker_count
    breaker_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = _POLICY.breaker_share
    breaker_release: PositiveDuration = _POLICY.breaker_release
    amnesty: Duration = _POLICY.amnesty
    max_settlements: Annotated[int, Field(ge=1)] = _POLICY.max_settlements
    include_work_pools: Names = _POLICY.include_work_pools
    include_work_queues: Names = _POLICY.include_work_queues
    include_deployments: frozenset[Annotated[str, BeforeValidator(_deployment_id)]] = _POLICY.include_deployments
    include_tags: Names = _POLICY.include_tags
    exclude_work_pools: Names = _POLICY.exclude_work_pools
    exclude_work_queues: Names = _POLICY.exclude_work_queues
    exclude_deployments: frozenset[Annotated[str, BeforeValidator(_deployment_id)]] = _POLICY.exclude_deployments
    exclude_tags: Names = _POLICY.exclude_tags
    scope_deadline: PositiveDuration = timedelta(seconds=20)


class DaemonSettings(BaseModel):
    """What only the daemon uses."""

    model_config = _STRICT

    interval: PositiveDuration = timedelta(seconds=30)
    jitter: Duration = timedelta(seconds=1)
    cycle_deadline: PositiveDuration = timedelta(minutes=2)
    listen: Annotated[str, AfterValidator(listen_address)] = ""
    allowed_hosts: Names = frozenset()
    ui_url: Annotated[str, AfterValidator(page_address)] = ""
    log_level: LogLevel = LogLevel.INFO

    @property
    def address(self) -> Address | None:
        """Where to listen; None: nowhere."""
        return Address.read(self.listen) if self.listen else None


class ScopeSettings(BaseModel):
    """One `[[scopes]]` table; a `reconciler.registry.ScopeSpec`."""

    model_config = _STRICT

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")]
    adapter: Name
    work_pools: Names = frozenset()
    work_queues: Names = frozenset()
    workers: Names = frozenset()
    tags: Names = frozenset()
    exclusive: bool = False
    mode: Mode = Mode.SETTLE
    identity: Name | None = None
    options: Mapping[str, object] = Field(default_factory=dict, repr=False)  # the adapter validates its own

    @property
    def observes(self) -> bool:
        """Nothing is written of what it judges, whatever the policy's mode."""
        return self.mode is Mode.OBSERVE

    def mapping(self, worker_types: Collection[str]) -> RunMapping:
        """Which runs this scope is asked about; the worker types are the adapter's own."""
        return RunMapping(
            work_pools=self.work_pools,
            work_queues=self.work_queues,
            workers=self.workers,
            tags=self.tags,
            worker_types=frozenset(worker_types),
            exclusive=self.exclusive,
        )


class Settings(BaseSettings):
    """All settings of one process. Build it with `settings.load`, which knows where each value came from."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, env_prefix="RECONCILER_", env_nested_delimiter="__"
    )

    state_dir: Path = Path("/var/lib/prefect-reconciler")  # for root; `load` knows of the others
    api: ApiSettings = ApiSettings()
    policy: PolicySettings = PolicySettings()
    daemon: DaemonSettings = DaemonSettings()
    scopes: tuple[ScopeSettings, ...] = ()

    def to_policy(self) -> Policy:
        """Build the policy of a pass."""
        return Policy(**self.policy.model_dump(exclude={"scope_deadline"}))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing behind `load`'s back: it merges the sources itself, to know the origin of each value."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


SECTIONS: Mapping[str, type[BaseModel]] = {"api": ApiSettings, "policy": PolicySettings, "daemon": DaemonSettings}


def setting_paths() -> tuple[str, ...]:
    """Every setting by its dotted path ("policy.grace"); scopes are not among them."""
    nested = [f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields]
    return ("state_dir", *nested)


def known_keys() -> dict[str, tuple[str, ...]]:
    """The keys of each table; "" is the top of the file."""
    tables: dict[str, type[BaseModel]] = {"": Settings, **SECTIONS, "scopes": ScopeSettings}
    return {table: tuple(model.model_fields) for table, model in tables.items()}
