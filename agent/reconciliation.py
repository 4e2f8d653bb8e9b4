"""What Neutron's server last reported in the store of its reconciliation of all port records.

Called by the store's thread, read by the event loop. Lives from construction to `close`.
"""

import logging

from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.store import layout
from ovs_metadata.store.reconciliation import NEVER, ReconciliationReport, read_report
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)


class ReconciliationFollower:
    """Follows the report; one that cannot be used leaves the last one."""

    def __init__(self, store: Store) -> None:
        """Start following."""
        self.report: ReconciliationReport | None = None
        """None until the store has answered, or while there was no usable report."""
        self._problem = ProblemLog(LOG, "ignoring Neutron's report of a reconciliation: %s")
        self._follower = store.follow_document(layout.RECONCILIATION, self._changed)

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def _changed(self, data: bytes | None) -> None:
        try:
            self.report = NEVER if data is None else read_report(data)
        except ValueError as error:
            self._problem.found([str(error)])
        else:
            self._problem.found()
