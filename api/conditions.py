"""Writes on condition: what a request expects of the present record of each instance, and what it is told otherwise.

An instance or key may carry ``expected_revision`` and ``expected_epoch`` (0: it must not exist); a request that names
exactly one may say it by ``If-Match: "<revision>"`` or ``If-None-Match: *`` instead. The state machine decides; here is
only how it is said. What is expected next is in the answers: ``ETag`` and ``x-artemis-lease-epoch`` where one instance
was written, the present revision and epoch beside each instance that was refused, and both in look-ups that ask for
them (``x-artemis-instance-revisions``).
"""

from __future__ import annotations

from collections.abc import Sequence

from artemis.api.dialects.bodies import WriteBody
from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.api.faults import Headers, bad_request
from artemis.commands import Condition
from artemis.outcomes import Conflict


def conditions_of(
    accepted: Sequence[SentInstance | SentKey], body: WriteBody, expected_revision: int | None
) -> tuple[Condition, ...]:
    """On the positions in ``accepted``, which are those of ``body`` that are proposed. ``expected_revision`` is the
    header's. Raises ``HttpFault`` (400) if the header does not fit the request."""
    if expected_revision is not None:
        named = sum(sent is not None for sent in body.instances or ()) + len(body.keys or ())
        return _of_header(accepted, named, expected_revision)
    return tuple(
        [
            Condition(position, sent.expected_revision, sent.expected_epoch)
            for position, sent in enumerate(accepted)
            if sent.expected_revision is not None or sent.expected_epoch is not None
        ]
    )


def _of_header(accepted: Sequence[SentInstance | SentKey], named: int, expected_revision: int) -> tuple[Condition, ...]:
    if named != 1:
        raise bad_request(
            f"If-Match, If-None-Match: exactly one instance is allowed with them, not {named}; give each its "
            "expected_revision instead"
        )
    if any(sent.expected_revision is not None or sent.expected_epoch is not None for sent in accepted):
        raise bad_request(
            "If-Match, If-None-Match: the instance says itself what is expected; one of the two is allowed"
        )
    return tuple(Condition(position, revision=expected_revision) for position in range(len(accepted)))


def refusal_text(conflict: Conflict) -> str:
    if not conflict.epoch:
        return "condition failed: there is no such instance"
    return f"condition failed: the instance is of revision {conflict.revision} and epoch {conflict.epoch}"


def record_headers(revision: int, epoch: int) -> Headers:
    """What the one record of a request is now; nothing of one that does not exist."""
    if not epoch:
        return []
    return [(b"etag", b'"%d"' % revision), (b"x-artemis-lease-epoch", b"%d" % epoch)]
