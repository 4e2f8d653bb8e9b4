"""Notices changes of metadata options in tags, of which Neutron's tag plugin notifies no other.

SQLAlchemy's events of tags, in the process that changes them. They come in the thread of the API
call; the callback comes after the commit, so that it reads what is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from neutron.db.models import tag
from sqlalchemy import event, orm

from ovs_metadata.store.record import TAG_PREFIX

_CHANGED = "ovs_metadata_changed_tags"
"""Where a session has the standard attributes whose tags its transaction changes."""


class TagWatch:
    """Calls `changed` with the ids of standard attributes whose tags a transaction has changed.

    A rolled back transaction may cause a call, too.
    """

    def __init__(self, changed: Callable[[Collection[int]], None]) -> None:
        self._changed = changed
        for name in ("after_insert", "after_delete"):  # a tag has nothing to update
            event.listen(tag.Tag, name, self._written)

    def _written(self, _mapper: object, _connection: object, written: Any) -> None:
        session = orm.object_session(written)
        if session is None or not written.tag.startswith(TAG_PREFIX):
            return
        if _CHANGED not in session.info:
            session.info[_CHANGED] = set()
            event.listen(session, "after_commit", self._committed)
        session.info[_CHANGED].add(written.standard_attr_id)

    def _committed(self, session: Any) -> None:
        if session.in_nested_transaction():
            return  # a savepoint: others do not see it yet
        attributes, session.info[_CHANGED] = session.info[_CHANGED], set()
        if attributes:
            self._changed(attributes)
