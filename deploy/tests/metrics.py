"""What the processes of a stack tell Prometheus."""

import urllib.request

from deploy.driver import Operator
from deploy.local.folder import StackFolder


def metrics(operator: Operator, role: str) -> str:
    """What all processes of a role export, in Prometheus' text format."""
    found = StackFolder.find(operator.data).load().services.values()
    return "".join(_read(service.metrics) for service in found if service.role == role)


def _read(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return str(answer.read().decode())
