"""What the API server refuses in each environment: whole policies, in force before what they guard is made."""

import json
from dataclasses import replace
from typing import Any

import pytest

from components.apps.admission import Admission, AdmissionArgs, Rule
from services.core.digests import sha256
from services.core.kube import Object
from services.serving import admission, pod_admission
from services.serving.inference import Place
from services.serving.pod_admission import PredictorPods
from services.training import admission as of_jobs
from tests.infra.graphs import all_layers
from tests.infra.recorded import recorded
from tests.kube.objects import IMAGE, runtime_args, storage_args

RULE = Rule(policy=admission.policy(Place()), binding=admission.binding())
PODS = PredictorPods(
    account="predictor",
    role_arn="arn:aws:iam::111122223333:role/predictor",
    runtime=runtime_args("models-staging"),
    storage=storage_args(),
)
FORMER = "registry.example/ai-infra@" + sha256(b"former")


def test_a_policy_and_its_binding_are_those_that_are_stated() -> None:
    made = recorded(lambda: Admission("admission", AdmissionArgs(rules=[RULE])))
    found: dict[str, Any] = {kind: item.inputs for (kind, _), item in made.items()}
    assert found == {item["kind"]: item for item in (RULE.policy, RULE.binding)}


def test_a_binding_of_another_policy_is_refused() -> None:
    apart = replace(RULE, binding=of_jobs.binding("training-dev"))
    with pytest.raises(ValueError, match=r"ai-infra-servable-models.*nothing would be refused"):
        AdmissionArgs(rules=[RULE, apart])


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_models_certificates_and_services_come_after_all_policies(environment: str) -> None:
    (_, _, apps) = all_layers(environment)
    rules = {item.urn for item in apps.resources if "ValidatingAdmissionPolicy" in item.type}
    assert len(rules) == 10
    # A component waits before it has a URN, and its children wait for that.
    components = {item.urn: set(item.depends_on) for item in apps.resources if not item.custom}
    guarded = [item for item in apps.resources if item.type.endswith((":ServingRuntime", ":Certificate", ":Deployment"))]
    assert {item.type.split(":")[-1] for item in guarded} == {"ServingRuntime", "Certificate", "Deployment"}
    # API and proxy come after the certificates, which come after the policies.
    certificates = {item.urn for item in guarded if item.type.endswith(":Certificate")}
    for item in guarded:
        first = components[item.parent or ""]
        assert rules <= first or certificates <= first, item.urn


def test_each_policy_of_pods_is_in_force_in_its_namespace_only() -> None:
    bindings = (pod_admission.binding("models-dev"), of_jobs.binding("training-dev"))
    where = [stated["spec"]["matchResources"]["namespaceSelector"]["matchLabels"] for stated in bindings]
    assert where == [{"kubernetes.io/metadata.name": name} for name in ("models-dev", "training-dev")]


def test_former_images_of_predictors_are_admitted_by_digest_only() -> None:
    assert images(pod_admission.policy(PODS)) == [IMAGE]
    assert images(pod_admission.policy(replace(PODS, former=[FORMER]))) == [IMAGE, FORMER]
    with pytest.raises(ValueError, match="no digest"):
        replace(PODS, former=["registry.example/ai-infra:latest"])


def images(policy: Object) -> list[str]:
    [said] = [rule["expression"] for rule in policy["spec"]["validations"] if "c.image" in rule["expression"]]
    found: list[str] = json.loads(said[said.index("[") : said.index("]") + 1].replace("'", '"'))
    return found
