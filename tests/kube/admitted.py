"""Pods as KServe and KubeRay make them of our objects, with all that they and EKS add: what admission has to let through.

The additions are written down from those projects' own words; none of their controllers runs here.
"""

import copy
from collections.abc import Iterator

from infra.manifests import manifests
from services.core.kube import Object
from services.serving.inference import MODELS
from services.serving.pod_admission import DOWNLOADED
from tests.peers import ROOT

OF_EKS = [
    {"name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "regional"},
    {"name": "AWS_REGION", "value": "eu-central-1"},
    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
    {
        "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "value": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
    },
]
IDENTITY = {"audience": "pods.eks.amazonaws.com", "expirationSeconds": 86400, "path": "eks-pod-identity-token"}
TOKEN = {"name": "eks-pod-identity-token", "projected": {"sources": [{"serviceAccountToken": IDENTITY}]}}
TOKEN_MOUNT = {"name": TOKEN["name"], "mountPath": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount", "readOnly": True}
OF_IRSA = [
    {"name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "regional"},
    {"name": "AWS_REGION", "value": "eu-central-1"},
    {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"},
]
"""Beside AWS_ROLE_ARN, where no association of Pod Identity is."""
OF_KUBERAY = [
    {"name": "RAY_CLUSTER_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['ray.io/cluster']"}}},
    {"name": "RAY_AUTH_MODE", "value": "token"},
    {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "run-cluster", "key": "auth_token"}}},
]


def of_kind(environment: str, kind: str) -> Object:
    """The one object of a kind among an environment's manifests."""
    [found] = [item for item in manifests(ROOT, environment) if item["kind"] == kind]
    return copy.deepcopy(found)


def predictor_pod(environment: str) -> Object:
    service, runtime = of_kind(environment, "InferenceService"), of_kind(environment, "ServingRuntime")["spec"]
    storage = of_kind(environment, "ClusterStorageContainer")["spec"]["container"]
    predictor = service["spec"]["predictor"]
    [main] = runtime["containers"]
    storage["args"] = [predictor["model"]["storageUri"], MODELS]
    storage["env"] += [{"name": "HF_XET_HIGH_PERFORMANCE", "value": "1"}]
    for container in (main, storage):
        container["env"] += OF_EKS
        container["volumeMounts"] += [{"name": DOWNLOADED, "mountPath": MODELS}, TOKEN_MOUNT]
    spec = {
        "serviceAccountName": predictor["serviceAccountName"],
        "automountServiceAccountToken": False,
        "securityContext": predictor["securityContext"],
        "initContainers": [storage],
        "containers": [main],
        "volumes": [*runtime["volumes"], {"name": DOWNLOADED, "emptyDir": {}}, TOKEN],
    }
    meta = {"name": "digits-predictor", "namespace": runtime_space(environment), "labels": predictor["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def predictor_pod_by_irsa(environment: str, role_arn: str) -> Object:
    pod = predictor_pod(environment)
    token = {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}
    source = {"projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": token}]}}
    pod["spec"]["volumes"] = [item for item in pod["spec"]["volumes"] if item != TOKEN] + [{"name": "aws-iam-token"} | source]
    mount = {"name": "aws-iam-token", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount", "readOnly": True}
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        kept = [item for item in container["env"] if item not in OF_EKS]
        container["env"] = [*kept, *OF_IRSA, {"name": "AWS_ROLE_ARN", "value": role_arn}]
        container["volumeMounts"] = [item for item in container["volumeMounts"] if item != TOKEN_MOUNT] + [mount]
    return pod


def runtime_space(environment: str) -> str:
    return str(of_kind(environment, "ServingRuntime")["metadata"]["namespace"])


def ray_pods(environment: str) -> Iterator[Object]:
    """Head, workers' and submitter's, each with KubeRay's variables; a worker's waits for the head by the same image."""
    job = of_kind(environment, "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    templates = {"head": cluster["headGroupSpec"]["template"], "submitter": job["spec"]["submitterPodTemplate"]}
    templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    for name, template in templates.items():
        spec = template["spec"]
        for container in spec["containers"]:
            container["env"] += OF_KUBERAY
        if name not in ("head", "submitter"):
            [worker] = spec["containers"]
            spec["initContainers"] = [{"name": "wait-gcs-ready", "image": worker["image"], "env": OF_KUBERAY}]
        meta = {"name": name, "namespace": job["metadata"]["namespace"], "labels": template["metadata"]["labels"]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
