"""Apache Kafka that speaks TLS only, wants SCRAM passwords, and grants no right by itself."""

import re
from pathlib import Path

from certificates import Certificates
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.ports import LOOPBACK

ADMIN, PASSWORD = "admin", "correct-horse-battery-staple"
USERS = (ADMIN, "operator", "worker", "server", "producer", "consumer")
JAAS = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{ADMIN}" password="{PASSWORD}";'
RIGHTS = Path(__file__).resolve().parents[2] / "docs" / "security.md"
RIGHT = re.compile(
    r"^\| `(?P<user>\w+)` \| (?P<resource>cluster|topic|group)(?: `(?P<name>[^`]+)`)? \| (?P<operations>[\w, ]+) \|$",
    re.M,
)


class SecuredKafka(ApacheKafka):
    """One broker on SASL_SSL with SCRAM-SHA-512; its certificate is signed by ``certificates.authority``.

    Only ``ADMIN`` may do anything before ``grant`` is called.
    """

    def __init__(self, run_dir: Path, certificates: Certificates) -> None:
        self._certificates = certificates
        super().__init__(run_dir)

    def _format_arguments(self) -> list[str]:
        users = ((["--add-scram", f"SCRAM-SHA-512=[name={user},password={PASSWORD}]"]) for user in USERS)
        return [word for words in users for word in words]

    def _properties(self, node: int) -> dict[str, str | int]:
        store = self._run_dir / "keystore.pem"
        store.write_text(self._certificates.key.read_text() + self._certificates.server.read_text())
        listener = f"SASL_SSL://{LOOPBACK}:{self.ports[node]}"
        return super()._properties(node) | {
            "listeners": f"{listener},CONTROLLER://{LOOPBACK}:{self._controller_ports[node]}",
            "advertised.listeners": listener,
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": JAAS,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN};User:ANONYMOUS",  # the controller's own listener has no passwords here
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._certificates.authority),
        }


def documented_rights() -> list[AclBinding]:
    """The rights that the table of the security page lists."""
    bindings = []
    for right in RIGHT.finditer(RIGHTS.read_text()):
        kind = {"cluster": ResourceType.BROKER, "topic": ResourceType.TOPIC, "group": ResourceType.GROUP}[
            right["resource"]
        ]
        name = right["name"] or "kafka-cluster"
        pattern = ResourcePatternType.LITERAL
        if name.endswith("*") and name != "*":
            name, pattern = name[:-1], ResourcePatternType.PREFIXED
        for operation in right["operations"].split(", "):
            bindings.append(
                AclBinding(
                    kind,
                    name,
                    pattern,
                    f"User:{right['user']}",
                    "*",
                    AclOperation[operation.upper()],
                    AclPermissionType.ALLOW,
                )
            )
    return bindings


def grant(admin: AdminClient, rights: list[AclBinding]) -> None:
    """Grant rights and wait until the broker has them."""
    for granted in admin.create_acls(rights).values():
        granted.result()
