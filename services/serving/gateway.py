"""How the cluster's gateway reaches predictors: a BackendTLSPolicy for each Service that its routes lead to. Pure functions.

Without one it speaks plain HTTP, which no predictor takes. Not here: the gateway's own certificate, which comes with the gateway.

What this rests on in KServe 0.21, for raw deployments behind the Gateway API. A predictor's Service is called NAME-predictor after
its InferenceService, a canary's NAME-CANARY-predictor (the description of `spec.canary` in the definition); port 80 of it leads to
the container's first port (`createDefaultSvc`, reconcilers/service). HTTPRoutes lead to port 80 of those Services, for any path,
and share requests out by weights (reconcilers/ingress/httproute_reconciler.go). Only a real cluster proves it.
"""

from services.core.kube import Object, Resource
from services.core.tls import service_id
from services.serving.inference import MANAGED, Place

POLICIES = Resource("gateway.networking.k8s.io", "v1", "backendtlspolicies")
SERVICE = "ai-infra/inference-service"
"""Label of a policy: the InferenceService that it belongs to."""


def predictor_services(service: Object) -> list[str]:
    """Names of the Services that KServe makes for an InferenceService: stable's, then those of canaries."""
    name = service["metadata"]["name"]
    variants = [canary["predictor"]["name"] for canary in service["spec"]["canary"]]
    return [f"{name}-predictor", *(f"{name}-{variant}-predictor" for variant in variants)]


def backend_policies(place: Place, service: Object) -> list[Object]:
    """Those of an InferenceService. Each is called as the Service that it is for, and holds for all of its ports."""
    meta = service["metadata"]
    return [_policy(place, meta["namespace"], meta["name"], name) for name in predictor_services(service)]


def _policy(place: Place, namespace: str, service: str, name: str) -> Object:
    return {
        "apiVersion": f"{POLICIES.group}/{POLICIES.version}",
        "kind": "BackendTLSPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": MANAGED | {SERVICE: service}},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": name}],
            "validation": {
                # Only told to the predictor (SNI): it is known by its identity, which nobody else in the cluster has.
                "hostname": place.host,
                "subjectAltNames": [{"type": "URI", "uri": service_id("predictor")}],
                # cert-manager keeps it; `ca.crt` in it is read. The Gateway API leaves to implementations whether they take a
                # Secret here: Envoy Gateway does.
                "caCertificateRefs": [{"group": "", "kind": "Secret", "name": place.identity}],
            },
        },
    }
