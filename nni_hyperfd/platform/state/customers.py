"""Customers, and what their tokens hash to."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.records import CustomerInfo
from nni_hyperfd.platform.state.schema import CustomerRow, TaskRow, now
from nni_hyperfd.platform.state.transactions import Transactions


class Customers(Transactions):
    """Rows of customers."""

    def add_customer(self, name: str, token_sha256: str) -> None:
        """Let a customer in; one who was revoked gets a new token, and finds his tasks again.

        Raises:
            PlatformError: There is one of that name.
        """
        known = PlatformError(f"there is a customer {name} already; revoke it first to give it a new token")
        try:
            with self.writing() as session:
                row = session.get(CustomerRow, name, with_for_update=True)
                if row is None:
                    session.add(CustomerRow(name=name, token_sha256=token_sha256))
                elif row.revoked is None:
                    raise known
                else:
                    row.token_sha256, row.revoked = token_sha256, None
        except IntegrityError:
            raise known from None

    def revoke_customer(self, name: str) -> None:
        """Refuse a customer from now on; what the platform has learnt from him stays.

        Raises:
            PlatformError: There is none of that name whom the platform takes messages from.
        """
        with self.writing() as session:
            row = session.get(CustomerRow, name, with_for_update=True)
            if row is None or row.token_sha256 is None:
                raise PlatformError(f"there is no customer {name} with a token")
            row.token_sha256, row.revoked = None, now()

    def customers(self) -> list[CustomerInfo]:
        """All customers, in the order in which they came."""
        row = CustomerRow
        query = (
            select(row.name, row.created, row.revoked, func.count(TaskRow.id))
            .outerjoin(TaskRow)
            .group_by(row.name, row.created, row.revoked)
            .order_by(row.created, row.name)
        )
        with self.reading() as session:
            return [CustomerInfo(*entry) for entry in session.execute(query)]

    def token_sha256(self, customer: str) -> str | None:
        """What a customer's token hashes to; None for one who is not let in."""
        query = select(CustomerRow.token_sha256).where(CustomerRow.name == customer)
        with self.reading() as session:
            return session.execute(query).scalar_one_or_none()
