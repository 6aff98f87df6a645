"""Tests on a real PostgreSQL server."""

from tests.support.postgres import database, postgres_server, postgres_url

__all__ = ["database", "postgres_server", "postgres_url"]
