"""All the doctor can find: docs/troubleshooting.md has a section on each of them."""

from ovs_metadata.cli.doctor import faults_host, faults_nova, faults_port
from ovs_metadata.cli.doctor.finding import Fault

FAULTS: tuple[Fault, ...] = tuple(
    value
    for module in (faults_host, faults_port, faults_nova)
    for value in vars(module).values()
    if isinstance(value, Fault)
)
"""In the order of the way."""
