from support.databases import database_url, postgresql_server

__all__ = ["database_url", "postgresql_server"]
