"""The Kubernetes manifests are valid and say what the code expects."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.kit.config import Settings

_ROOT = Path(__file__).parents[2]
_BASE = _ROOT / "deploy/kubernetes/base"
_EXAMPLE = _ROOT / "deploy/kubernetes/example"
_PORTS = {"message": 50051, "conversation": 50052, "dispatch": 50053, "gateway": 8000}
_SERVICE = {"message": "MessageService", "conversation": "ConversationService", "dispatch": "DispatchService"}
_KUSTOMIZE = next((tool for tool in (shutil.which("kustomize"), shutil.which("kubectl")) if tool), None)


def _documents(folder: Path) -> list[dict[str, Any]]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return [
        document
        for name in kustomization["resources"]
        if (folder / name).is_file()
        for document in yaml.safe_load_all((folder / name).read_text())
    ]


def _of(kind: str) -> dict[str, dict[str, Any]]:
    return {
        document["metadata"]["name"]: document for document in _documents(_BASE) if document["kind"] == kind
    }


def _pod(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]["template"]["spec"]
    return spec


def _check(documents: list[dict[str, Any]]) -> None:
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_manifest_is_valid_and_listed() -> None:
    _check(_documents(_BASE) + _documents(_EXAMPLE))
    listed = set(yaml.safe_load((_BASE / "kustomization.yaml").read_text())["resources"])
    assert {path.name for path in _BASE.glob("*.yaml")} == listed | {"kustomization.yaml"}


def test_the_check_refuses_what_is_wrong() -> None:
    wrong = _of("Deployment")["gateway"]
    wrong["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        _check([wrong])


@pytest.mark.skipif(_KUSTOMIZE is None, reason="neither kustomize nor kubectl is on this machine")
def test_kustomize_builds_valid_manifests() -> None:
    assert _KUSTOMIZE is not None
    command = [_KUSTOMIZE, "build"] if _KUSTOMIZE.endswith("kustomize") else [_KUSTOMIZE, "kustomize"]
    built = subprocess.run([*command, str(_EXAMPLE)], check=True, capture_output=True, text=True)  # noqa: S603
    documents = list(yaml.safe_load_all(built.stdout))
    _check(documents)
    (config,) = (document for document in documents if document["kind"] == "ConfigMap")
    names = {document["metadata"]["name"] for document in documents if document["kind"] == "Deployment"}
    assert names == set(_PORTS)
    for document in documents:
        if document["kind"] == "Deployment":
            (container,) = _pod(document)["containers"]
            assert container["image"] == "registry.example.com/posthouse:0.1.0"
            assert container["envFrom"][0]["configMapRef"]["name"] == config["metadata"]["name"]
    assert set(config["data"]) <= _settings()


def test_settings_exist() -> None:
    names = re.findall(r"^([A-Z_]+)=", (_BASE / "settings.env").read_text(), re.MULTILINE)
    assert names
    assert set(names) <= _settings()


def test_a_broker_that_is_away_does_not_take_the_intake_out() -> None:
    text = (_BASE / "settings.env").read_text()
    assert re.findall(r"^POSTHOUSE_READY_FOLLOWS=(.*)$", text, re.MULTILINE) == ["postgresql"]


@pytest.mark.parametrize("name", list(_PORTS))
def test_each_process_runs_guarded_probed_and_drained(name: str) -> None:
    deployment = _of("Deployment")[name]
    pod = _pod(deployment)
    (container,) = pod["containers"]
    assert container["args"] == [name]
    assert container["ports"][0]["containerPort"] == _PORTS[name]
    if name == "gateway":
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    else:
        grpc = {"port": _PORTS[name], "service": f"posthouse.v1.{_SERVICE[name]}"}
        assert container["readinessProbe"]["grpc"] == grpc
    assert "startupProbe" in container
    # The same user as the Dockerfile's.
    assert pod["securityContext"]["runAsUser"] == 10001
    assert "--uid 10001" in (_ROOT / "Dockerfile").read_text()
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    # Leaving the list of addresses, draining and stopping fit into what Kubernetes allows.
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = int(re.findall(r"SHUTDOWN_GRACE=(\d+)", (_BASE / "settings.env").read_text())[0])
    notice = Settings.model_fields["drain_notice"].default
    assert waits + notice + grace < pod["terminationGracePeriodSeconds"]
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    # Secrets come by reference only.
    assert {"secretRef": {"name": "posthouse"}} in container["envFrom"]
    assert "env" not in container
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert _of("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == selector
    assert _of("Service")[name]["spec"]["selector"] == selector


def test_the_migration_is_a_job() -> None:
    (container,) = _pod(_of("Job")["migrate"])["containers"]
    assert container["args"] == ["migrate"]


def test_dispatch_scales_on_the_depth_of_its_queue() -> None:
    (metric,) = _of("HorizontalPodAutoscaler")["dispatch"]["spec"]["metrics"]
    assert metric["external"]["metric"] == {
        "name": "queue_depth",
        "selector": {"matchLabels": {"queue": "dispatch"}},
    }
    assert all("replicas" not in _of("Deployment")[name]["spec"] for name in _of("HorizontalPodAutoscaler"))


def _settings() -> set[str]:
    return {
        name.upper() if field.validation_alias else f"POSTHOUSE_{name.upper()}"
        for name, field in Settings.model_fields.items()
    }
