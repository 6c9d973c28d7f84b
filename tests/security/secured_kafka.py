"""Apache Kafka that speaks TLS only and wants SCRAM passwords."""

from pathlib import Path

from certificates import Certificates

from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.ports import LOOPBACK

USER, PASSWORD = "chronotope", "correct-horse-battery-staple"
JAAS = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{USER}" password="{PASSWORD}";'


class SecuredKafka(ApacheKafka):
    """One broker on SASL_SSL with SCRAM-SHA-512; its certificate is signed by ``certificates.authority``."""

    def __init__(self, run_dir: Path, certificates: Certificates) -> None:
        self._certificates = certificates
        super().__init__(run_dir)

    def _format_arguments(self) -> list[str]:
        return ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]

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
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._certificates.authority),
        }
