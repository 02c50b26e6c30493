"""From one layout of the tables to the next; what is here was released, so it is never changed.

The statements are spelled out, because the tables in ``schema`` go on changing after them.
"""

from __future__ import annotations

from sqlalchemy import Connection

from nni_hyperfd.errors import PlatformError


def customers_and_guard(connection: Connection) -> None:
    """1 -> 2: every task belongs to a customer, and a version may be kept without being published.

    Raises:
        PlatformError: Rows refer to others that are not there.
    """
    postgresql = connection.dialect.name == "postgresql"
    moment = "TIMESTAMP WITH TIME ZONE" if postgresql else "DATETIME"
    for statement in (
        f"CREATE TABLE customers (name VARCHAR(64) NOT NULL, token_sha256 VARCHAR(64), created {moment} NOT NULL, "
        f"revoked {moment}, PRIMARY KEY (name))",
        "INSERT INTO customers (name, created) SELECT 'local', created FROM hyperfd_schema",
        *(_POSTGRESQL_1 if postgresql else _SQLITE_1),
        "UPDATE ranker_versions SET task_id = (SELECT id FROM tasks WHERE version_after = number)",
        "CREATE UNIQUE INDEX one_published_child ON ranker_versions (parent) WHERE published",
    ):
        connection.exec_driver_sql(statement)
    if not postgresql and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise PlatformError("its rows do not belong together; restore a backup")


def own_encoders_and_queue(connection: Connection) -> None:
    """2 -> 3: encoders of customers' own spaces have rows of their own, and who waits for his turn to update stands in a queue.

    The encoders that are in older versions' blobs stay there, where they are found; the next update writes rows for them.
    """
    postgresql = connection.dialect.name == "postgresql"
    number, blob = ("DOUBLE PRECISION", "BYTEA") if postgresql else ("FLOAT", "BLOB")
    for statement in (
        f"CREATE TABLE own_encoders (space_key VARCHAR(64) NOT NULL, version INTEGER NOT NULL, blob {blob} NOT NULL, "
        "sha256 VARCHAR(64) NOT NULL, PRIMARY KEY (space_key, version), "
        "FOREIGN KEY (version) REFERENCES ranker_versions (number))",
        f"CREATE TABLE update_queue (customer VARCHAR(64) NOT NULL, task_id VARCHAR(64) NOT NULL, since {number} NOT NULL, "
        f"asked {number} NOT NULL, PRIMARY KEY (customer), FOREIGN KEY (customer) REFERENCES customers (name), "
        "FOREIGN KEY (task_id) REFERENCES tasks (id))",
        f"ALTER TABLE update_lease ADD COLUMN begun {number}",
    ):
        connection.exec_driver_sql(statement)


def curves(connection: Connection) -> None:
    """3 -> 4: a row of experience may have a learning curve."""
    connection.exec_driver_sql("ALTER TABLE experience ADD COLUMN curve JSON")


_POSTGRESQL_1 = (
    "ALTER TABLE tasks ADD COLUMN customer VARCHAR(64) NOT NULL DEFAULT 'local' REFERENCES customers (name)",
    "ALTER TABLE tasks ALTER COLUMN customer DROP DEFAULT",
    "ALTER TABLE tasks DROP CONSTRAINT tasks_experiment_id_key",
    "ALTER TABLE tasks ADD UNIQUE (customer, experiment_id)",
    "ALTER TABLE ranker_versions ADD COLUMN task_id VARCHAR(64) UNIQUE",
    "ALTER TABLE ranker_versions ADD COLUMN published BOOLEAN NOT NULL DEFAULT true",
    "ALTER TABLE ranker_versions ALTER COLUMN published DROP DEFAULT",
    "ALTER TABLE ranker_versions ADD COLUMN guard TEXT",
    "ALTER TABLE ranker_versions DROP CONSTRAINT ranker_versions_parent_key",
    "ALTER TABLE ranker_versions DROP CONSTRAINT ranker_versions_experiment_id_key",
)

# SQLite cannot drop a constraint: each table is made anew and renamed, with foreign keys off, as its manual advises.
_SQLITE_1 = (
    """CREATE TABLE tasks_2 (
        id VARCHAR(64) NOT NULL,
        customer VARCHAR(64) NOT NULL,
        experiment_id VARCHAR(64) NOT NULL,
        space_key VARCHAR(64) NOT NULL,
        space_json TEXT NOT NULL,
        flops_limit FLOAT NOT NULL,
        extractor_version INTEGER NOT NULL,
        phi JSON NOT NULL,
        status VARCHAR(16) NOT NULL,
        created DATETIME NOT NULL,
        finished DATETIME,
        version_before INTEGER,
        version_after INTEGER,
        trials_used INTEGER,
        trials_failed INTEGER,
        final_phi JSON,
        PRIMARY KEY (id),
        UNIQUE (customer, experiment_id),
        FOREIGN KEY (customer) REFERENCES customers (name),
        FOREIGN KEY (extractor_version) REFERENCES ranker_versions (number),
        UNIQUE (version_after)
    )""",
    """INSERT INTO tasks_2 SELECT id, 'local', experiment_id, space_key, space_json, flops_limit, extractor_version, phi,
        status, created, finished, version_before, version_after, trials_used, trials_failed, final_phi FROM tasks""",
    "DROP TABLE tasks",
    "ALTER TABLE tasks_2 RENAME TO tasks",
    """CREATE TABLE ranker_versions_2 (
        number INTEGER NOT NULL,
        parent INTEGER,
        task_id VARCHAR(64),
        experiment_id VARCHAR(64),
        published BOOLEAN NOT NULL,
        guard TEXT,
        reason TEXT NOT NULL,
        settings JSON NOT NULL,
        ranker BLOB NOT NULL,
        ranker_sha256 VARCHAR(64) NOT NULL,
        omega BLOB NOT NULL,
        omega_sha256 VARCHAR(64) NOT NULL,
        created DATETIME NOT NULL,
        PRIMARY KEY (number),
        FOREIGN KEY (parent) REFERENCES ranker_versions (number),
        UNIQUE (task_id)
    )""",
    """INSERT INTO ranker_versions_2 SELECT number, parent, NULL, experiment_id, 1, NULL, reason, settings,
        ranker, ranker_sha256, omega, omega_sha256, created FROM ranker_versions""",
    "DROP TABLE ranker_versions",
    "ALTER TABLE ranker_versions_2 RENAME TO ranker_versions",
)
