"""The tables of the schema `jarai`, and how they are created. All times in them are Unix seconds.

`jarai.now()` is the only clock: those of the hosts may be wrong. Leases, slots of the rate limit and orders
of events follow it.

Texts of JARAI are in columns of the type json, which takes what jsonb refuses: the character zero.

- `requests` has what a journal keeps of each request (`entries.Intent`). `worker` owns it, and `epoch` counts
  its owners: each write names the epoch, so that a former owner changes nothing.
  `is_settled`: its outcome is known, but not final, so that no worker has to do anything.
- `commands` are what users decide: cancel, retry, resolve. The worker that owns the request carries them out.
- `events` are numbered by the transaction that commits them, one after the other: a reader that has seen a
  cursor has seen all lower ones.
- `workers` renew `seen_at`; one that has not for `lease` seconds is dead. After the database was started,
  none is for two leases, because none could renew it.
- `rate_limit` has one row: every slot that was handed out to any worker.
- `webhooks` arrive at any process, and the owner of the production reads them.
"""

from typing import Any, Final

from jarai_async._errors import JournalError
from jarai_async._postgres.database import Connection, Database, rows

VERSION: Final = 1
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('jarai schema'))"
_EXISTS = "SELECT to_regclass('jarai.facts') IS NOT NULL"
_SELECT_VERSION = "SELECT value FROM jarai.facts WHERE name = 'version'"
_TABLES = """
CREATE SCHEMA IF NOT EXISTS jarai;

CREATE FUNCTION jarai.now() RETURNS double precision LANGUAGE sql VOLATILE
    AS $$ SELECT extract(epoch FROM clock_timestamp())::double precision $$;

CREATE FUNCTION jarai.started_at() RETURNS double precision LANGUAGE sql STABLE
    AS $$ SELECT extract(epoch FROM pg_postmaster_start_time())::double precision $$;

CREATE TABLE jarai.facts (name text PRIMARY KEY, value json NOT NULL);

CREATE TABLE jarai.workers (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    started_at double precision NOT NULL,
    seen_at double precision NOT NULL,
    lease double precision NOT NULL,
    demand double precision NOT NULL DEFAULT 0,
    statistics jsonb NOT NULL DEFAULT '{}'
);

CREATE FUNCTION jarai.lives(worker uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (
        SELECT FROM jarai.workers WHERE id = worker
            AND jarai.now() < greatest(seen_at + lease, jarai.started_at() + 2 * lease)
    )
$$;

CREATE TABLE jarai.requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference text NOT NULL UNIQUE,
    account_id text NOT NULL,
    key text NOT NULL,
    body bytea NOT NULL,
    stage text NOT NULL,
    state text,
    ended_at double precision,
    kept text NOT NULL,
    production_id text,
    status text,
    epoch bigint NOT NULL DEFAULT 0,
    worker uuid,
    is_settled boolean NOT NULL DEFAULT false
);
CREATE INDEX requests_of_worker ON jarai.requests (worker) WHERE worker IS NOT NULL;
CREATE INDEX requests_of_production ON jarai.requests (production_id);
CREATE INDEX requests_without_end ON jarai.requests (id) WHERE stage <> 'ended';

CREATE TABLE jarai.last_cursor (value bigint NOT NULL);
INSERT INTO jarai.last_cursor VALUES (0);
CREATE TABLE jarai.events (
    cursor bigint PRIMARY KEY,
    request bigint NOT NULL REFERENCES jarai.requests ON DELETE CASCADE,
    sequence integer NOT NULL,
    kind text NOT NULL,
    value bytea NOT NULL,
    UNIQUE (request, sequence)
);

CREATE TABLE jarai.commands (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request bigint NOT NULL REFERENCES jarai.requests ON DELETE CASCADE,
    kind text NOT NULL,
    argument text,
    done_at double precision,
    error json
);
CREATE INDEX commands_of_request ON jarai.commands (request) WHERE done_at IS NULL;

CREATE TABLE jarai.rate_limit (state jsonb NOT NULL);
INSERT INTO jarai.rate_limit VALUES ('{}');

CREATE TABLE jarai.webhooks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at double precision NOT NULL,
    production_id text,
    event json NOT NULL
);
CREATE INDEX webhooks_by_age ON jarai.webhooks (received_at);
"""


async def create(database: Database) -> None:
    """Create the tables, unless they exist. Raises JournalError where a newer version has made them."""

    async def create_once(connection: Connection) -> Any:
        await connection.execute(_LOCK)  # of several workers that start together, one creates them
        [(exists,)] = await rows(connection, _EXISTS)
        if not exists:
            await connection.execute(_TABLES.encode())
            await connection.execute("INSERT INTO jarai.facts VALUES ('version', to_json(%s))", (VERSION,))
        [(version,)] = await rows(connection, _SELECT_VERSION)
        return version

    version = await database.transaction(create_once)
    if version > VERSION:
        raise JournalError(f"{database.name} was made by a newer version of jarai-async")
