"""An environment as a drawing: network, cluster, database, stores, backups and keys, all of it read from its graph.

Each thing names the key that encrypts it; arrows say what writes or copies where. Pointed at, everything says more.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.graph import Graph, Resource, references
from infra.svg import LINE, Box, Card, Sheet

LEFT, TOP, GAP, COLUMN, STORE = 24, 64, 14, 250, 270
VPC_WIDTH: Final = 3 * COLUMN + 4 * GAP
CARD: Final = 200

BUCKET = "aws:s3/bucketV2:BucketV2"
SUBNET = "aws:ec2/subnet:Subnet"
KEY = "aws:kms/key:Key"
VAULT = "aws:backup/vault:Vault"


def draw(graph: Graph) -> str:
    """SVG, the same for the same graph."""
    return _Drawing(graph).svg()


class _Drawing:
    def __init__(self, graph: Graph) -> None:
        self._graph, self._sheet = graph, Sheet()
        self._boxes: dict[str, Box] = {}
        self._home, *self._away = sorted(graph.of("pulumi:providers:aws"), key=lambda item: item.urn not in _main(graph))

    def svg(self) -> str:
        graph, sheet = self._graph, self._sheet
        bottom = self._network(LEFT, TOP)
        stores = LEFT + VPC_WIDTH + 60
        bottom = max(bottom, self._region(stores, TOP, self._home))
        width = stores + STORE + LEFT
        for other in self._away:
            bottom = max(bottom, self._region(width + 30, TOP, other))
            width += 30 + STORE + LEFT
        bottom = self._keys(LEFT, bottom + GAP, width - 2 * LEFT)
        self._arrows()
        name = f"ai-infra {graph.environment}"
        sheet.text(LEFT, 36, name, "title")
        sheet.text(
            LEFT + 190, 36, f"account {self._account()}, layer {graph.layer}: {sum(r.custom for r in graph.resources)} resources"
        )
        return sheet.document(width, bottom + 20, f"{name}, {graph.layer}")

    def _account(self) -> str:
        return ", ".join(json.loads(self._home.inputs["allowedAccountIds"]))

    # The network, from the outside in.

    def _network(self, x: int, y: int) -> int:
        vpc = self._graph.of("aws:ec2/vpc:Vpc")[0]
        subnets = self._graph.of(SUBNET)
        zones = sorted({item.inputs["availabilityZone"] for item in subnets})
        columns = {zone: x + GAP + number * (COLUMN + GAP) for number, zone in enumerate(zones)}
        top = y + 30
        frame, self._sheet = self._sheet, Sheet()
        for zone, column in columns.items():
            self._sheet.text(column + 4, top + 12, zone, "head")
        bottom = self._subnets("public", columns, top + 22)
        nodes_top = bottom + GAP
        bottom = self._subnets("nodes", columns, nodes_top)
        bottom = self._cluster(x + GAP, bottom + GAP)
        bottom = self._subnets("database", columns, bottom + GAP)
        bottom = self._databases(x + GAP, bottom + GAP)
        bottom = self._endpoints(x + GAP, bottom + GAP)
        inner, self._sheet = self._sheet, frame
        box = Box(x, y, VPC_WIDTH, bottom + GAP - y)
        self._sheet.box(box, "area", vpc.name)
        self._sheet.text(x + GAP, y + 20, f"VPC {vpc.inputs['cidrBlock']}, {self._region_of(vpc)}", "head")
        self._sheet.put(inner)
        return box.bottom

    def _subnets(self, tier: str, columns: Mapping[str, int], y: int) -> int:
        gateways = {self._urn(item.inputs["subnetId"]): item for item in self._graph.of("aws:ec2/natGateway:NatGateway")}
        bottom = y
        for item in self._graph.of(SUBNET):
            zone = item.inputs["availabilityZone"]
            if item.name.removesuffix(f"-{zone}").rpartition("-")[2] == tier:
                way = ", NAT gateway" if item.urn in gateways else ""
                card = Card(name=f"{tier} subnet", lines=[f"{item.inputs['cidrBlock']}{way}"], hint=item.name)
                bottom = max(bottom, self._put(item, columns[zone], y, COLUMN, card).bottom)
        return bottom

    def _cluster(self, x: int, y: int) -> int:
        cluster = self._graph.of("aws:eks/cluster:Cluster")[0]
        config = cluster.inputs["vpcConfig"]
        api = "public" if config["endpointPublicAccess"] else "private"
        pools = self._graph.of("aws:eks/nodeGroup:NodeGroup")
        width = VPC_WIDTH - 2 * GAP
        each = (width - GAP * (len(pools) + 1)) // max(len(pools), 1)
        cards = [(pool, self._pool(pool)) for pool in pools]
        height = 30 + LINE + max(card.height for _, card in cards) + GAP
        self._boxes[cluster.urn] = Box(x, y, width, height)
        self._sheet.box(self._boxes[cluster.urn], "frame", cluster.name)
        key = self._key(cluster.inputs["encryptionConfig"]["provider"]["keyArn"])
        self._sheet.text(x + GAP, y + 20, f"EKS {cluster.inputs['version']} {cluster.inputs['name']}, {api} endpoint", "head")
        self._sheet.text(x + GAP, y + 20 + LINE, f"key: {key}", "key")
        for number, (pool, card) in enumerate(cards):
            self._put(pool, x + GAP + number * (each + GAP), y + 30 + LINE, each, card)
        return y + height

    def _pool(self, pool: Resource) -> Card:
        given = pool.inputs
        scaling = given["scalingConfig"]
        spot = given["capacityType"] == "SPOT"
        taints = [item["key"] for item in given["taints"]]
        template = self._graph.resource(self._urn(given["launchTemplate"]["id"]))
        ebs = template.inputs["blockDeviceMappings"][0]["ebs"]
        lines = [
            ", ".join(given["instanceTypes"]),
            f"{scaling['minSize']} to {scaling['maxSize']} nodes, {'spot' if spot else 'on demand'}",
            f"{ebs['volumeSize']} GiB, zones: {len(given['subnetIds'])}",
            *(f"taint {taint}" for taint in taints),
        ]
        return Card(name=pool.name, lines=lines, hint=given["nodeGroupName"], key=self._key(ebs["kmsKeyId"]), style="spot" * spot)

    def _databases(self, x: int, y: int) -> int:
        bottom = y
        for item in self._graph.of("aws:rds/instance:Instance"):
            given = item.inputs
            zones = "two zones" if given.get("multiAz") else "one zone"
            kept = ", protected from deletion" if given.get("deletionProtection") else ""
            lines = [
                f"{given['instanceClass']}, {zones}, {given['allocatedStorage']} GiB{kept}",
                f"restored to any second of {_days(given['backupRetentionPeriod'])}",
            ]
            name = f"{given['engine']} {given['engineVersion']}"
            card = Card(name=name, lines=lines, hint=given["identifier"], key=self._key(given["kmsKeyId"]))
            bottom = self._put(item, x, bottom, VPC_WIDTH - 2 * GAP, card).bottom
        return bottom

    def _endpoints(self, x: int, y: int) -> int:
        found = self._graph.of("aws:ec2/vpcEndpoint:VpcEndpoint")
        names = [item.inputs["serviceName"].split(".", 3)[3] for item in found]
        rows = [", ".join(names[start : start + 10]) for start in range(0, len(names), 10)]
        return self._sheet.card(
            x, y, VPC_WIDTH - 2 * GAP, Card(name="VPC endpoints", lines=rows, hint="private ways to AWS")
        ).bottom

    # What keeps data, region by region: copies stand beside what they are copies of.

    def _region(self, x: int, y: int, provider: Resource) -> int:
        self._sheet.text(x, y + 20, provider.inputs["region"], "head")
        here = [item for item in self._graph.resources if item.provider == provider.urn]
        copies = {copy: source for source, copy in self._copies()}
        top = y + 34
        for item in sorted((item for item in here if item.type == BUCKET), key=lambda item: item.name == "trail"):
            source = self._boxes.get(copies.get(item.urn, ""))
            top = self._put(item, x, source.y if source else top, STORE, self._bucket(item)).bottom + GAP
        for trail in (item for item in here if item.type == "aws:cloudtrail/trail:Trail"):
            valid = "files can be validated" if trail.inputs["enableLogFileValidation"] else "no validation of files"
            card = Card(name="CloudTrail", lines=[valid], hint=trail.inputs["name"], key=self._key(trail.inputs["kmsKeyId"]))
            top = self._put(trail, x, top + GAP, STORE, card).bottom + GAP
        for vault in (item for item in here if item.type == VAULT):
            source = self._boxes.get(copies.get(vault.urn, ""))
            top = self._put(vault, x, source.y if source else top + GAP, STORE, self._vault(vault)).bottom + GAP
        return top

    def _bucket(self, bucket: Resource) -> Card:
        lock = self._about(bucket, "bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2")
        kept = lock["rule"]["defaultRetention"] if lock else None
        rules = (self._about(bucket, "bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2") or {})[
            "rules"
        ]
        key = rules[0]["applyServerSideEncryptionByDefault"].get("kmsMasterKeyId")
        return Card(
            name=f"bucket {bucket.name}",
            hint=bucket.inputs["bucket"],
            lock=f"locked {_days(kept['days'])}, {kept['mode'].lower()}" if kept else "",
            key=self._key(key) if key else "of S3",
        )

    def _about(self, bucket: Resource, kind: str) -> dict[str, Any] | None:
        of_kind = self._graph.of(f"aws:s3/{kind}")
        return next((item.inputs for item in of_kind if self._urn(item.inputs["bucket"]) == bucket.urn), None)

    def _vault(self, vault: Resource) -> Card:
        locks = self._graph.of("aws:backup/vaultLockConfiguration:VaultLockConfiguration")
        lock = next((item.inputs for item in locks if self._urn(item.inputs["backupVaultName"]) == vault.urn), None)
        kept = f"locked, backups stay {_days(lock['minRetentionDays'])}" if lock else ""
        return Card(name=f"backup {vault.name}", hint=vault.inputs["name"], lock=kept, key=self._key(vault.inputs["kmsKeyArn"]))

    # Keys: who may sign, and what encrypts.

    def _keys(self, x: int, y: int, width: int) -> int:
        self._sheet.text(x, y + 12, "Keys", "head")
        signing = [item for item in self._graph.of(KEY) if item.inputs["keyUsage"] == "SIGN_VERIFY"]
        data = [item for item in self._graph.of(KEY) if item not in signing]
        bottom = top = y + 22
        left = x
        for item in signing:
            signers = ", ".join(_signers(_plain(self._graph, item.inputs["policy"])))
            copies = [
                copy
                for copy in self._graph.of("aws:kms/replicaKey:ReplicaKey")
                if self._urn(copy.inputs["primaryKeyArn"]) == item.urn
            ]
            lines = [item.inputs["customerMasterKeySpec"], f"only {signers} signs"]
            lines += [f"replica in {self._region_of(copy)}" for copy in copies]
            card = Card(
                name=f"signs {item.name}",
                lines=lines,
                hint=item.inputs["description"],
                lock="protected from deletion" if item.protect else "",
            )
            bottom = max(bottom, self._put(item, left, top, CARD, card).bottom)
            left += CARD + GAP
        rest = x + width - left
        names = [self._key_name(item) for item in data]
        per_row = max(1, rest // 130)
        for number, (item, name) in enumerate(zip(data, names, strict=True)):
            box = Box(left + number % per_row * 130, top + number // per_row * 34, 122, 26)
            self._sheet.box(box, "card", item.inputs["description"])
            self._sheet.text(box.x + 8, box.y + 17, name, "key")
            bottom = max(bottom, box.bottom)
        return bottom

    # What writes where.

    def _arrows(self) -> None:
        for source, copy in self._copies():
            self._sheet.arrow(self._boxes[source], self._boxes[copy], "is copied to")
        for trail in self._graph.of("aws:cloudtrail/trail:Trail"):
            self._sheet.arrow(self._boxes[trail.urn], self._boxes[self._bucket_of(trail.inputs["s3BucketName"])], "writes to")
        for rule in {self._urn(rule["targetVaultName"]): rule for rule in self._rules()}.values():
            for database in self._graph.of("aws:rds/instance:Instance"):
                if database.inputs["tags"].get("backup"):
                    vault = self._boxes[self._urn(rule["targetVaultName"])]
                    self._sheet.arrow(self._boxes[database.urn], vault, "is backed up to")

    def _copies(self) -> list[tuple[str, str]]:
        """Source and copy, of buckets and of vaults, each once."""
        found: dict[tuple[str, str], None] = {}
        for item in self._graph.of("aws:s3/bucketReplicationConfig:BucketReplicationConfig"):
            for rule in item.inputs["rules"]:
                found[self._bucket_of(item.inputs["bucket"]), self._bucket_of(rule["destination"]["bucket"])] = None
        for rule in self._rules():
            for action in rule.get("copyActions", ()):
                found[self._urn(rule["targetVaultName"]), self._urn(action["destinationVaultArn"])] = None
        return list(found)

    def _rules(self) -> Iterator[dict[str, Any]]:
        for plan in self._graph.of("aws:backup/plan:Plan"):
            yield from plan.inputs["rules"]

    def _put(self, item: Resource, x: int, y: int, width: int, card: Card) -> Box:
        self._boxes[item.urn] = self._sheet.card(x, y, width, card)
        return self._boxes[item.urn]

    def _urn(self, value: Any) -> str:
        return next(found.urn for found in references(value))

    def _bucket_of(self, value: Any) -> str:
        """Through the bucket's policy, where that has to be there first."""
        item = self._graph.resource(self._urn(value))
        return item.urn if item.type == BUCKET else self._bucket_of(item.inputs["bucket"])

    def _key(self, value: Any) -> str:
        return self._key_name(self._graph.resource(self._urn(value)))

    def _key_name(self, key: Resource) -> str:
        return key.name.removesuffix("-key")

    def _region_of(self, item: Resource) -> str:
        return str(self._graph.resource(item.provider or "").inputs["region"])


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


def _main(graph: Graph) -> set[str | None]:
    """The provider that the VPC is made with."""
    return {item.provider for item in graph.of("aws:ec2/vpc:Vpc")}


def _plain(graph: Graph, value: Any) -> str:
    """A text, with names of resources in place of what only AWS knows."""
    parts = value["$join"] if isinstance(value, dict) else [value]
    return "".join(part if isinstance(part, str) else graph.resource(part["$ref"]["urn"]).name for part in parts)


def _signers(policy: str) -> list[str]:
    allowed = [item for item in json.loads(policy)["Statement"] if item["Effect"] == "Allow" and "kms:Sign" in item["Action"]]
    return sorted({str(item["Principal"]["AWS"]) for item in allowed})
