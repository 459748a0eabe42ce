"""What an environment's API server refuses, of models, of pods and of certificates."""

from collections.abc import Mapping

from components.apps.admission import AdmissionArgs, Rule
from components.apps.calls import PREDICTOR, TRAINING
from components.apps.certificates import Holder
from components.platform import cert_manager, vault
from components.trust import role_name
from services.core import certificate_admission as of_identities
from services.core.certificate_admission import Authority, Identity
from services.core.tls import service_id
from services.serving import admission as of_models
from services.serving import pod_admission as of_predictors
from services.serving.inference import Place
from services.serving.pod_admission import PredictorPods
from services.training import admission as of_jobs
from services.training.placing import VOLUME
from stacks.config import AppsStack
from stacks.namespaces import CERTIFICATES, GATEWAY, SERVICES, VAULT, models, training
from stacks.serving import runtime_args, storage_args

OF_PLATFORM = (
    Identity(namespace=VAULT, name="vault", addresses=vault.ADDRESSES),
    Identity(namespace=GATEWAY, name="inference"),
    Identity(namespace=GATEWAY, name="gateway", uris=[service_id("gateway")]),
)
"""What the layer before asks the authority for. Each has a namespace of its own, in which no user makes anything."""


def admission_args(config: AppsStack, holders: Mapping[str, Holder]) -> AdmissionArgs:
    """holders: of certificates, see `Certificates`."""
    # Its name is known before the role is.
    role = f"arn:aws:iam::{config.account}:role/{role_name(config.environment, PREDICTOR)}"
    pods = PredictorPods(
        account=PREDICTOR,
        role_arn=role,
        runtime=runtime_args(config),
        storage=storage_args(config),
        former=config.apps.former_images,
    )
    authority = _authority(holders)
    return AdmissionArgs(
        rules=[
            Rule(policy=of_models.policy(Place()), binding=of_models.binding()),
            Rule(policy=of_predictors.policy(pods), binding=of_predictors.binding(models(config.environment))),
            Rule(policy=of_jobs.policy(TRAINING, VOLUME), binding=of_jobs.binding(training(config.environment))),
            Rule(policy=of_identities.requests_policy(authority), binding=of_identities.requests_binding()),
            Rule(policy=of_identities.certificates_policy(authority), binding=of_identities.certificates_binding()),
        ]
    )


def _authority(holders: Mapping[str, Holder]) -> Authority:
    ours = [
        Identity(namespace=holder.namespace, name=service, uris=[service_id(service)], names=holder.names)
        for service, holder in holders.items()
    ]
    return Authority(
        issuer=cert_manager.AUTHORITY,
        requester=f"system:serviceaccount:{CERTIFICATES}:{cert_manager.ACCOUNT}",
        people=SERVICES,
        identities=[*ours, *OF_PLATFORM],
    )
