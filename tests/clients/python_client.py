"""Uses the client that openapi-python-client has generated, as a shop's backend would.

Usage: python_client.py ADDRESS PRODUCT, with the generated package `flashsale` on the path. The product has two units.
"""

import sys

from flashsale import AuthenticatedClient
from flashsale.api.administration import list_dead_events
from flashsale.api.products import get_product
from flashsale.api.reservations import (
    confirm_reservation,
    list_reservations,
    reserve_product,
    return_reservation,
)
from flashsale.models import Code, CreateReservation, Payment, Problem, Product, Reservation, Status

address, product_id = sys.argv[1], int(sys.argv[2])
# The service under test has no keys, so any token does.
client = AuthenticatedClient(base_url=address, token="unused", raise_on_unexpected_status=True)


def reserve(user_id, quantity, key):
    body = CreateReservation(product_id=product_id, user_id=user_id, quantity=quantity, reference=f"order-{user_id}")
    return reserve_product.sync(client=client, body=body, idempotency_key=key)


hold = reserve(42, 2, "first")
assert isinstance(hold, Reservation) and hold.status is Status.ACTIVE, hold
assert reserve(42, 2, "first").id == hold.id
# The default quantity.
refused = reserve_product.sync(client=client, body=CreateReservation(product_id=product_id, user_id=43))
assert isinstance(refused, Problem) and refused.code is Code.SOLD_OUT and refused.stock == 0, refused
unknown = confirm_reservation.sync(4711, client=client)
assert isinstance(unknown, Problem) and unknown.code is Code.RESERVATION_NOT_FOUND, unknown

sold = confirm_reservation.sync(hold.id, client=client, body=Payment(reacquire=True), idempotency_key="second")
assert sold.status is Status.CONFIRMED and sold.confirmed_at.utcoffset().total_seconds() == 0, sold
returned = return_reservation.sync(hold.id, client=client)
assert returned.status is Status.RETURNED, returned

for user_id in (44, 45):
    assert isinstance(reserve(user_id, 1, f"of-{user_id}"), Reservation)
listed, after = [], None
while True:
    page = list_reservations.sync_detailed(
        client=client, product_id=product_id, limit=1, **({} if after is None else {"after_id": after})
    )
    listed += page.parsed
    if "Link" not in page.headers:
        break
    after = page.parsed[-1].id
assert [reservation.user_id for reservation in listed] == [45, 44, 42], listed
product = get_product.sync(product_id, client=client)
assert isinstance(product, Product) and product.held == 2, product
assert list_dead_events.sync(client=client) == []
