"""Plans, and who refers to one: keys, owners (by choice and by entitlement) and workspaces (as the default).

Every workspace gets the two plans that new ones begin with. References are empty texts rather than NULL where there is
none, and no foreign keys: who refers to a plan holds its row, so it cannot be deleted meanwhile.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

from keystead.kernel.ids import new_id

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SYSTEM_WORKSPACE_ID = "wsp_00000000000000000000000000"
FREE_LIMITS = '[{"name":"requests","on":"key","sliding_window":{"limit":100,"window_ms":60000}}]'
# Name, description and limits of what every workspace begins with.
FREE = ("free", "A hundred requests a minute for each key.", FREE_LIMITS)
ENTERPRISE = ("enterprise", "No limits.", "[]")


def upgrade() -> None:
    """Make the table and the columns, and give every workspace its plans."""
    plans = make_plans()
    for table in ("keys", "owners"):
        op.add_column(table, sa.Column("plan_id", ASCII, nullable=False, server_default=""))
        op.add_column(table, sa.Column("limits", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("owners", sa.Column("entitled_plan_id", ASCII, nullable=False, server_default=""))
    op.add_column("owners", sa.Column("entitled_until_ms", sa.BigInteger()))
    op.add_column("workspaces", sa.Column("default_plan_id", ASCII, nullable=False, server_default=""))
    make_index("keys_by_plan", "keys", "plan_id")
    make_index("owners_by_plan", "owners", "plan_id")
    make_index("owners_by_entitlement", "owners", "entitled_plan_id")
    give_plans(plans)


def make_plans() -> sa.Table:
    """Make the table of plans."""
    return op.create_table(
        "plans",
        sa.Column("id", ASCII, nullable=False),
        sa.Column("workspace_id", ASCII, nullable=False),
        sa.Column("name", ASCII, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("max_keys_per_owner", sa.BigInteger(), nullable=False),
        sa.Column("rotate_every_ms", sa.BigInteger(), nullable=False),
        sa.Column("suspend_overdue", sa.Boolean(), nullable=False),
        sa.Column("on_limiter_outage", ASCII, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="plans_pk"),
        sa.UniqueConstraint("workspace_id", "name", name="plans_name"),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="plans_workspace", ondelete="CASCADE"),
    )


def make_index(name: str, table: str, column: str) -> None:
    """Index those alone that refer to a plan: most do not."""
    given = sa.text(f"{column} <> ''")
    op.create_index(name, table, ["workspace_id", column], sqlite_where=given, postgresql_where=given)


def give_plans(plans: sa.Table) -> None:
    """Give every workspace but the system's own its plans, ``free`` as the default."""
    connection = op.get_bind()
    workspaces = sa.table("workspaces", sa.column("id"), sa.column("default_plan_id"))
    wanted = sa.select(workspaces.c.id).where(workspaces.c.id != SYSTEM_WORKSPACE_ID)
    now_ms = time.time_ns() // 1_000_000
    for workspace_id in connection.execute(wanted).scalars().all():
        free_id, enterprise_id = new_id("pln", now_ms=now_ms), new_id("pln", now_ms=now_ms)
        for plan_id, (name, description, limits) in ((free_id, FREE), (enterprise_id, ENTERPRISE)):
            connection.execute(
                plans.insert().values(
                    id=plan_id,
                    workspace_id=workspace_id,
                    name=name,
                    description=description,
                    limits=limits,
                    max_keys_per_owner=0,
                    rotate_every_ms=0,
                    suspend_overdue=False,
                    on_limiter_outage="deny",
                    created_at_ms=now_ms,
                    updated_at_ms=now_ms,
                    version=1,
                )
            )
        connection.execute(workspaces.update().where(workspaces.c.id == workspace_id).values(default_plan_id=free_id))
