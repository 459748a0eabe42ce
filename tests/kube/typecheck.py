"""Kubernetes' own type check of policies, by its controller manager: what CEL would find out only when it meets an object."""

import subprocess
from pathlib import Path

from services.core.admission import POLICIES
from services.core.kube import Kube
from tests.kube.apiserver import ApiServer
from tests.peers import need
from tests.serving import wait_for


def warnings(server: ApiServer, kube: Kube, folder: Path) -> dict[str, list[str]]:
    """Of each policy of the cluster. Kinds that the server does not serve are not checked."""
    program, config = need("kube-controller-manager"), server.kubeconfig(folder)
    flags = ("--leader-elect=false", "--secure-port=0", "--controllers=validatingadmissionpolicy-status-controller")
    with (folder / "controller-manager.log").open("wb") as log:
        process = subprocess.Popen([program, f"--kubeconfig={config}", *flags], stdout=log, stderr=log)
    try:
        wait_for(lambda: all(map(_checked, kube.list(POLICIES)["items"])), "the policies are type-checked")
    finally:
        process.kill()
        process.wait()
    found = {item["metadata"]["name"]: item["status"]["typeChecking"] for item in kube.list(POLICIES)["items"]}
    return {name: [said["warning"] for said in check.get("expressionWarnings", [])] for name, check in found.items()}


def _checked(policy: dict[str, dict[str, object]]) -> bool:
    return policy.get("status", {}).get("observedGeneration") == policy["metadata"]["generation"]
