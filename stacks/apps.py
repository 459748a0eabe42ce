"""What users run, joined from components. Deployed from within the network: its API is private, and so is Vault."""

from pulumi import ResourceOptions
from pulumi_vault import Provider as Vault

from components.apps.admission import Admission
from components.apps.api import api
from components.apps.calls import API, PREDICTOR, PROXY, TRAINING, Places
from components.apps.certificates import Certificates, CertificatesArgs, Holder, secret_of, service_names
from components.apps.monitoring import Monitoring, MonitoringArgs, Scraped
from components.apps.network_policies import NetworkPolicies, NetworkPoliciesArgs
from components.apps.rbac import Account, Grant, Rbac, RbacArgs
from components.apps.serving import Serving, ServingArgs
from components.apps.signing_proxy import IN_VAULT, signing_proxy
from components.apps.vault_access import Account as VaultAccount
from components.apps.vault_access import VaultAccess, VaultAccessArgs, signing_paths
from components.apps.workload import Workload
from services.serving.admission import role as serving_role
from services.serving.inference import serving_runtime
from services.serving.storage_container import storage_container
from services.training import rayjob
from stacks.apps_admission import admission_args
from stacks.apps_services import api_args, proxy_args
from stacks.cluster import after, cluster_provider, reference
from stacks.config import AppsStack
from stacks.namespaces import GATEWAY, MONITORING, SERVICES, models, training
from stacks.outputs import GroundOutputs, PlatformOutputs
from stacks.serving import runtime_args, storage_args

PROMETHEUS = "prometheus"
"""Whose certificate Prometheus shows to what it scrapes."""


def apps(config: AppsStack) -> None:
    ground = GroundOutputs.of(reference(config, "ground"))
    platform = PlatformOutputs.of(reference(config, "platform"))
    vault = Vault("vault", address=config.apps.vault_address)
    opts = ResourceOptions(providers=[cluster_provider(config, ground), vault])
    network = NetworkPolicies("network", NetworkPoliciesArgs(places=_places(config, ground)), opts)
    rights = Rbac("rbac", _rights(config, ground), opts)
    wanted = _certificates(config, platform)
    admission = Admission("admission", admission_args(config, wanted.holders), opts)
    certificates = Certificates("certificates", wanted, after(opts, admission))
    access = VaultAccess("vault-access", _vault(config), opts)
    Serving("serving", _serving(config), after(opts, admission))
    # What starts has its network closed, its rights and its certificate; the proxy's keys are there.
    ready = after(opts, network, rights, certificates)
    Workload(API, api(api_args(config, ground, platform)), ready)
    Workload(PROXY, signing_proxy(proxy_args(config, ground, platform)), after(ready, access))
    Monitoring("monitoring", _monitored(config), after(opts, certificates))


def _places(config: AppsStack, ground: GroundOutputs) -> Places:
    return Places(
        services=SERVICES,
        models=models(config.environment),
        training=training(config.environment),
        gateway=GATEWAY,
        node_blocks=[ground.node_blocks[zone] for zone in config.zones],
        database_blocks=[ground.database_blocks[zone] for zone in config.zones],
        witness_blocks=config.apps.witnesses.blocks,
    )


def _rights(config: AppsStack, ground: GroundOutputs) -> RbacArgs:
    ours, jobs = models(config.environment), training(config.environment)
    caller = Account(namespace=SERVICES, name=API)
    predictor = Account(namespace=ours, name=PREDICTOR, role_arn=ground.role_arns[PREDICTOR])
    return RbacArgs(
        accounts=[predictor, Account(namespace=jobs, name=TRAINING)],
        grants=[
            Grant(role=serving_role(), account=caller, namespace=ours),
            Grant(role=rayjob.role(), account=caller, namespace=jobs),
        ],
    )


def _certificates(config: AppsStack, platform: PlatformOutputs) -> CertificatesArgs:
    holders = {
        API: Holder(namespace=SERVICES, names=service_names(API, SERVICES)),
        PROXY: Holder(namespace=SERVICES, names=service_names(PROXY, SERVICES)),
        PREDICTOR: Holder(namespace=models(config.environment), names=(PREDICTOR,)),
        PROMETHEUS: Holder(namespace=MONITORING),
    }
    return CertificatesArgs(issuer=platform.issuer, holders=holders)


def _vault(config: AppsStack) -> VaultAccessArgs:
    proxy = VaultAccount(namespace=SERVICES, name=PROXY, paths=signing_paths(IN_VAULT))
    return VaultAccessArgs(environment=config.environment, keys=IN_VAULT, accounts={PROXY: proxy})


def _serving(config: AppsStack) -> ServingArgs:
    return ServingArgs(
        runtime=serving_runtime(runtime_args(config)),
        storage=storage_container(storage_args(config)),
    )


def _monitored(config: AppsStack) -> MonitoringArgs:
    served = models(config.environment)
    services = [
        Scraped(name=name, namespace=SERVICES, port="https", server_name=service_names(name, SERVICES)[0]) for name in (API, PROXY)
    ]
    predictors = Scraped(name=PREDICTOR, namespace=served, port="http1", server_name=PREDICTOR)
    return MonitoringArgs(namespace=MONITORING, secret=secret_of(PROMETHEUS), scraped=(*services, predictors))
