"""What users decide about a request, in any process: a row that the worker which owns it carries out."""

import json
from typing import Any, Final, Literal

from attrs import frozen

from jarai_async._errors import InvalidRequestError, JaraiError
from jarai_async._journal.events import decoded_error, error_fields
from jarai_async._postgres.database import Connection, Database, rows

COMMANDS: Final = "jarai_commands"
"""The channel that is notified of new commands, with the reference, and of those that were carried out."""
Kind = Literal["cancel", "retry", "resolve"]
_INSERT = """
INSERT INTO jarai.commands (request, kind, argument) SELECT id, %s, %s FROM jarai.requests
    WHERE reference = %s RETURNING id
"""
_PENDING = """
SELECT commands.id, kind, argument FROM jarai.commands JOIN jarai.requests ON requests.id = commands.request
    WHERE reference = %s AND done_at IS NULL ORDER BY commands.id
"""
_DONE = "UPDATE jarai.commands SET done_at = jarai.now(), error = %s WHERE id = %s"
_RESULT = "SELECT error FROM jarai.commands WHERE id = %s AND done_at IS NOT NULL"
_NOTIFY = "SELECT pg_notify(%s, %s)"


@frozen
class Command:
    """One decision. `argument` is the production that `resolve` names; None lets it be submitted again."""

    id: int
    kind: Kind
    argument: str | None


class Commands:
    """The decisions of all users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, reference: str, kind: Kind, argument: str | None = None) -> int:
        """Record a decision, and return its id. Raises InvalidRequestError for an unknown reference."""

        async def add(connection: Connection) -> int | None:
            inserted = await rows(connection, _INSERT, (kind, argument, reference))
            await connection.execute(_NOTIFY, (COMMANDS, reference))
            return int(inserted[0][0]) if inserted else None

        id_ = await self._database.transaction(add)
        if id_ is None:
            raise unknown_request(reference)
        return id_

    async def pending(self, reference: str) -> list[Command]:
        """Return the decisions about a request that are not carried out. Raises as `Database.read`."""
        return [Command(*row) for row in await self._database.read(_PENDING, (reference,))]

    async def done(self, command: Command, reference: str, error: JaraiError | None) -> None:
        """Record that a decision was carried out, or why it could not be. Raises as `Database.read`."""
        text = None if error is None else json.dumps(error_fields(error))

        async def record(connection: Connection) -> None:
            await connection.execute(_DONE, (text, command.id))
            await connection.execute(_NOTIFY, (COMMANDS, reference))

        await self._database.transaction(record)

    async def is_done(self, id_: int) -> bool:
        """Whether a decision was carried out. Raises why it could not be, and as `Database.read`."""
        done = await self._database.read(_RESULT, (id_,))
        if done and done[0][0] is not None:
            raise _decoded(done[0][0])
        return bool(done)


def unknown_request(reference: str) -> InvalidRequestError:
    """Return the error for a reference that no request of the database has."""
    return InvalidRequestError([f"the queue has no request with the reference {reference!r:.100}"])


def _decoded(fields: dict[str, Any]) -> JaraiError:
    if fields["type"] == InvalidRequestError.__name__:
        return InvalidRequestError([fields["message"]])
    return decoded_error(fields) or JaraiError("unknown")
