"""The files that deploy Posthouse say what the code expects."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.kit.config import Settings

_ROOT = Path(__file__).parents[2]
_PROCESSES = {"message", "conversation", "dispatch", "gateway"}
_HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
_AROUND = {"postgres", "nats", "redis", "prometheus", "grafana"}


def _compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
    return content


def test_compose_runs_the_whole_stack() -> None:
    services = _compose()["services"]
    assert set(services) == {"migrate"} | _AROUND | _PROCESSES
    for name in _PROCESSES:
        assert services[name]["command"] == [name]
        assert services[name]["healthcheck"]["test"][:3] == ["CMD", "posthouse", "health"]
    assert services["migrate"]["command"] == ["migrate"]


def test_compose_gives_the_settings_of_the_file_to_every_process_and_keeps_its_own_places() -> None:
    services = _compose()["services"]
    for name in _PROCESSES | {"migrate"}:
        assert services[name]["env_file"] == [{"path": ".env", "required": False}]
        # A laptop's .env may say otherwise; health checks, mounts and Prometheus know these.
        environment = services[name]["environment"]
        assert (environment["POSTHOUSE_HTTP_PORT"], environment["POSTHOUSE_GRPC_PORT"]) == (8000, 50051)
        assert not environment["POSTHOUSE_METRICS_PORT"]
        assert environment["POSTHOUSE_SIMULATOR_PATH"].startswith(environment["POSTHOUSE_DATA_DIR"])


def test_copies_of_a_service_need_not_share_a_port() -> None:
    services = _compose()["services"]
    for name in _PROCESSES - {"gateway"}:
        # Set, but empty, it leaves the port to Docker.
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT-(\d+)\}:\1", services[name]["ports"][0])


def test_compose_waits_for_what_each_service_needs() -> None:
    services = _compose()["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in _PROCESSES - {"gateway"}:
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert services[name]["depends_on"]["nats"]["condition"] == "service_healthy"
    assert set(services["gateway"]["depends_on"]) == _PROCESSES - {"gateway"}
    for name in _AROUND:
        assert services[name]["healthcheck"]["test"]


def test_compose_follows_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    file = str(_ROOT / "docker-compose.yml")
    result = subprocess.run([*command, file], check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(_HADOLINT is None, reason="hadolint is not on this machine")
def test_the_image_is_built_as_it_should_be() -> None:
    assert _HADOLINT is not None
    command = [_HADOLINT, "--failure-threshold", "info", str(_ROOT / "Dockerfile")]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own
    assert result.returncode == 0, result.stdout


def test_compose_mounts_only_what_is_there() -> None:
    for service in _compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (_ROOT / source).exists() if source.startswith("./") else source in _compose()["volumes"]


def test_redis_is_optional() -> None:
    services = _compose()["services"]
    assert services["redis"]["profiles"] == ["redis"]
    assert not any("redis" in service.get("depends_on", {}) for service in services.values())


def test_grafana_is_given_prometheus_and_the_dashboards() -> None:
    folder = _ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards/posthouse.yml").read_text())["providers"]
    mounted = {volume.split(":")[1] for volume in _compose()["services"]["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted


def test_compose_sets_only_settings_that_exist() -> None:
    for name in _PROCESSES:
        # PGPASSWORD is read by PostgreSQL's own client library.
        assert set(_compose()["services"][name]["environment"]) <= _names() | {"PGPASSWORD"}


def test_nats_syncs_what_it_acknowledges() -> None:
    assert "./deploy/nats/nats.conf:/etc/nats/nats.conf:ro" in _compose()["services"]["nats"]["volumes"]
    config = (_ROOT / "deploy/nats/nats.conf").read_text()
    assert re.search(r"jetstream\s*\{[^}]*^\s*sync_interval: always$", config, re.MULTILINE)


def test_env_example_lists_every_setting_with_its_default() -> None:
    text = (_ROOT / ".env.example").read_text()
    listed = dict(re.findall(r"^#([A-Z_]+)=(.*)$", text, re.MULTILINE))
    expected = {
        _name(name): "" if field.default is None else str(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert listed == expected
    for field in Settings.model_fields.values():
        assert f"# {field.description}\n" in text


def test_env_example_changes_nothing_when_all_of_it_is_uncommented(tmp_path: Path) -> None:
    text = (_ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(re.sub(r"^#([A-Z_]+=)", r"\1", text, flags=re.MULTILINE))
    assert Settings(_env_file=tmp_path / ".env") == Settings()  # type: ignore[call-arg]


def test_locks_hold_hashes_and_no_place_of_download() -> None:
    names = (
        "requirements.lock",
        "requirements-dev.lock",
        "requirements-build.lock",
        "requirements-redis.lock",
    )
    for name in names:
        lines = (_ROOT / name).read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert pins
        assert all(re.match(r"[a-z0-9-]+(\[[a-z,]+\])?==\S+ ", pin) for pin in pins)
        assert not any(re.search(r"://|^\s*(-i|--(extra-)?index|--find-links)|#\s*/", line) for line in lines)
        assert sum("--hash=sha256:" in line for line in lines) >= len(pins)


def test_locks_hold_every_requirement() -> None:
    pyproject = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    runtime = (_ROOT / "requirements.lock").read_text()
    everything = (_ROOT / "requirements-dev.lock").read_text()
    building = (_ROOT / "requirements-build.lock").read_text()
    for wanted, lock in (
        (pyproject["build-system"]["requires"], building),
        (project["dependencies"], runtime),
        ([*project["dependencies"], *project["optional-dependencies"]["dev"]], everything),
    ):
        for requirement in wanted:
            name = re.match(r"[a-z0-9-]+", requirement)
            assert name is not None
            assert re.search(rf"^{name[0]}(\[[a-z,]+\])?==", lock, re.MULTILINE), requirement


def test_the_image_is_built_with_what_is_locked_alone() -> None:
    building = (_ROOT / "requirements-build.lock").read_text()
    everything = (_ROOT / "requirements-dev.lock").read_text().splitlines()
    assert set(re.findall(r"^[a-z0-9-]+==.*$", building, re.MULTILINE)) <= set(everything)
    recipe = (_ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip (?:--python \S+ )?(?:install|wheel) ([^&\n]+)", recipe)
    assert len(installs) == 4
    for arguments in installs:
        assert {"--require-hashes", "--no-build-isolation", "--no-index"} & set(arguments.split()), arguments


def test_the_image_is_given_what_it_copies() -> None:
    recipe = (_ROOT / "Dockerfile").read_text()
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", recipe, re.MULTILINE)).split()
    kept = re.findall(r"^!(.*)$", (_ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(path.rstrip("/") for path in copied) == sorted(kept)


def _name(field: str) -> str:
    aliased = Settings.model_fields[field].validation_alias
    return field.upper() if aliased else f"POSTHOUSE_{field.upper()}"


def _names() -> set[str]:
    return {_name(field) for field in Settings.model_fields}
